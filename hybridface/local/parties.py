"""Common parts of sessions with all parties in this process: the parties' threads, and the client's session."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from hybridface.errors import ModelError
from parties.local import PartyThread
from parties.session.correlations import Correlations
from parties.transport.queues import local_channels
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import ParameterError
from protocols.link import NONE, Link

__all__ = ["LocalLinks", "LocalParties", "correlations_named"]

Client = TypeVar("Client")


@dataclass(frozen=True)
class LocalLinks:
    """The ends of the channels between parties in this process.

    Args:
        to_server, to_client: the client's end and the server's end of their channel.
        of_client, of_server: their channels to a dealer; None without a dealer.
        others: the dealer's thread, if there is one.
    """

    to_server: Channel
    to_client: Channel
    of_client: Channel | None
    of_server: Channel | None
    others: tuple[PartyThread, ...]

    @classmethod
    def make(cls, correlations: Correlations, timeout: float = 300.0, link: Link = NONE) -> "LocalLinks":
        """Return channels between client and server, and to a dealer if one is needed."""
        peers = local_channels("client", "server", timeout, link)
        if not correlations.needs_dealer:
            return cls(*peers, None, None, ())
        of_client, dealer_client = local_channels("client", "dealer", timeout, link)
        of_server, dealer_server = local_channels("server", "dealer", timeout, link)
        ends = dealer_client, dealer_server
        return cls(*peers, of_client, of_server, (PartyThread("dealer", Dealer(*ends).serve, ends),))

    @property
    def server_ends(self) -> tuple[Channel, ...]:
        """The server's ends, for its thread to close."""
        return (self.to_client,) if self.of_server is None else (self.to_client, self.of_server)


def correlations_named(name: Correlations | str) -> Correlations:
    """Return the way to make correlations that has this name.

    Raises:
        ParameterError: no way has this name.
    """
    if name not in list(Correlations):
        raise ParameterError(f"expected correlations from {', '.join(Correlations)}, got {name!r}")
    return Correlations(name)


class LocalParties(Generic[Client]):
    """The other parties as threads, and the client's own session, which a subclass opens.

    Args:
        timeout: seconds that a party waits for another.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._threads: tuple[PartyThread, ...] = ()
        self._client: Any = None

    def _start(self, *threads: PartyThread) -> None:
        self._threads = threads
        for thread in threads:
            thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            self._client.__exit__(kind, error, trace)
        for thread in self._threads:
            thread.join(self._timeout)

    @property
    def client(self) -> Client:
        """The client's session.

        Raises:
            ModelError: the session is not open.
        """
        if self._client is None:
            raise ModelError("expected an open session: use `with local_session(model) as session`")
        return self._client  # type: ignore[no-any-return]
