"""What the server's sides of sessions about galleries share: limits, the log, refusals, and outcomes, if it may know.

A query over a limit, or about nobody, is refused with a document that says so, before anything is computed; the
session goes on. Whatever else a client does to the gallery is logged before it is done.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from parties.gallery.errors import IndexChangedError, QueryLimitError, StoreError
from parties.gallery.index.search import PROBE
from parties.gallery.store.limits import EVERYONE, QueryLimits
from parties.gallery.store.records import GalleryKind
from parties.gallery.store.store import GalleryStore
from parties.session.cost import OFFLINE, ONLINE
from parties.session.server import ServerSession
from protocols.channel import SERVER
from protocols.correlations import Request
from protocols.errors import HybridFaceError, ParameterError
from protocols.shares.party import MpcParty

__all__ = ["GalleryServerSession"]


class GalleryServerSession(ServerSession):
    """The server's side of a session about a gallery of either kind.

    Args:
        store: of the gallery.
        kind: what it must be.
        limits: on the client's queries; None for none.
        client_name: whom the limits count, as the caller has authenticated them.
        others: as for `ServerSession`.
    """

    def __init__(
        self,
        *others: Any,
        store: GalleryStore,
        kind: GalleryKind,
        limits: QueryLimits | None,
        client_name: str,
        **options: Any,
    ) -> None:
        if store.kind is not kind:
            raise ParameterError(f"expected a gallery of kind {kind.value}, got {store.kind.value}")
        super().__init__(*others, **options)
        self._store, self._limits, self._client_name = store, limits, client_name
        self._accepted = False
        self._forget()

    def _forget(self) -> None:
        self.last_asked: str | None = None
        """About whom the command asked that was obeyed last, if it was a verification that was not refused."""
        self.last_identities: tuple[str | None, ...] = ()
        """Whom it has found, if it was an identification: Nones, if that was not revealed to the server."""
        self.last_decisions = ()

    def _obey(self, command: dict[str, Any]) -> None:
        self._forget()
        super()._obey(command)

    def _answer(self, work: Callable[[], None]) -> None:
        """Do it, or refuse it if it must not be done. What fails after it was accepted ends the session."""
        self._accepted = False
        self._forget()
        try:
            work()
        except (QueryLimitError, StoreError, ParameterError) as error:
            if self._accepted:
                raise
            self._forget()
            self._refuse(error)
        self._report()

    def _refuse(self, error: HybridFaceError) -> None:
        retry_after = max(error.retry_after_seconds, 0.0) if isinstance(error, QueryLimitError) else None
        changed = isinstance(error, IndexChangedError)
        document = {"refused": str(error), "retry after": retry_after, "changed": changed}
        self._channel.send_document("answer", document)

    def _accept(self, **fields: Any) -> None:
        self._accepted = True
        self._channel.send_document("answer", {"refused": None, **fields})

    def _admit(self, operation: str, identity: str | None, tokens: int = 1, enrolled: bool = True) -> None:
        """Count a query and log it, or refuse it: see `QueryLimits.admit`."""
        if self._limits:
            self._limits.admit(self._client_name, operation, identity, tokens, enrolled)
        self.last_asked = identity

    def _log(self, operation: str, identity: str | None = EVERYONE) -> None:
        """Log what is no query, and never limited."""
        if self._limits:
            self._limits.log(self._client_name, operation, identity, True)

    def _await_probe(self) -> None:
        """Let the client prepare a run of one photo, now that it may ask, if there is none."""
        while not self._is_prepared(PROBE):
            self._obey_preparation(self._channel.receive_document("command"))

    def _prepare_now(self, requests: Sequence[Request]) -> None:
        with self._recorder.recording(OFFLINE, "correlations"):
            self._source.prepare(list(requests))

    @contextmanager
    def _party(self, stage: str, phase: str = ONLINE) -> Iterator[MpcParty]:
        """Enter a party whose work is recorded as one stage."""
        with self._recorder.recording(phase, stage), MpcParty(SERVER, self._channel, self._source) as party:
            yield party
