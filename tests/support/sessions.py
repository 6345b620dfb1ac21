"""Sessions by hand: the client's ends of the channels, with the server and the dealer in threads."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hybridface.models.model import Model
from parties.local import PartyThread
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.progress import OnProgress
from parties.session.server import ServerSession
from parties.session.terms import Terms
from protocols.channel import Channel

__all__ = ["GUARD_SECONDS", "Ends", "terms_of"]

GUARD_SECONDS = 30.0
"""How long a session may take to notice that a peer is lost; far below its own timeout of 300 s."""


def terms_of(model: Model, **changes: Any) -> Terms:
    return dataclasses.replace(Terms(model.graph, model.threshold, correlations=Correlations.DEALER), **changes)


@dataclasses.dataclass
class Ends:
    """The channels of a session by hand: the client's ends, and the server and dealer in threads."""

    server: Channel
    dealer: Channel
    at_server: Channel
    server_thread: PartyThread
    opened: "Future[ServerSession]"

    @property
    def session(self) -> ServerSession:
        """The server's session, once it is open."""
        return self.opened.result(GUARD_SECONDS)

    def run(self, terms: Terms, work: Callable[[ClientSession], Any], on_progress: OnProgress | None = None) -> None:
        """Open the client's session, do some work in it, and end it."""
        with ClientSession(self.server, self.dealer, terms, on_progress=on_progress) as session:
            work(session)

    def server_error(self) -> BaseException | None:
        """Return why the server ended, once it has."""
        self.server_thread.join(GUARD_SECONDS)
        assert not self.server_thread.is_alive(), "the server hangs"
        return self.server_thread.error
