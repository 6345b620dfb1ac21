"""What sessions with all parties in this process have in common: the parties' threads, and the client's session."""

from types import TracebackType
from typing import Any, Generic, TypeVar

from hybridface.errors import ModelError
from parties.local import PartyThread

__all__ = ["LocalParties"]

Client = TypeVar("Client")


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
