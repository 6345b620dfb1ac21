"""Share code between the server's sides of gallery sessions: limits, the log, refusals, and outcomes it may know.

The server refuses a query that is over a limit, or about a person who is not enrolled. It sends a document that says
so before it computes anything, and the session goes on. It logs other operations on the gallery before it does them.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from parties.gallery.errors import IndexChangedError, QueryLimitError, RefusalError
from parties.gallery.index.search import PROBE, TOP_MAX, decide, decide_requests
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.store.limits import EVERYONE, QueryLimits
from parties.gallery.store.records import MAX_IDENTITY
from parties.gallery.store.store import GalleryStore
from parties.session.commands import Command, Commands, OnCommand, operation_of, work_of
from parties.session.server_endpoint import ServerEndpoint
from protocols.arithmetic.fixed_point import RingArray
from protocols.document import integer, text
from protocols.errors import HybridFaceError, ParameterError

__all__ = ["IDENTITY", "TOP", "GalleryQueries", "GalleryServerSession"]

IDENTITY = text(MAX_IDENTITY, 1)
"""Reads the identity that a command asks about."""

TOP = integer(1, TOP_MAX)
"""Reads the number of identities that an identification asks for."""


@dataclass(frozen=True)
class GalleryQueries:
    """The gallery that a server's session uses, and the limits on queries to it.

    Args:
        store: of the gallery.
        limits: on the client's queries; None for no limits.
        client_name: name for which the limits count; the caller has authenticated it.
        may: what the client may do; None for everything.
    """

    store: GalleryStore
    limits: QueryLimits | None
    client_name: str
    may: frozenset[Right] | None = None


class GalleryServerSession(ABC):
    """The server's side of a session about a gallery of either kind.

    Args:
        endpoint: the server's, of this session.
        queries: the gallery, and the limits on queries to it.
    """

    kind: ClassVar[GalleryKind]
    """The kind that the gallery must have."""

    rights: ClassVar[Mapping[str, Right]]
    """The right that each of the session's own commands needs."""

    def __init__(self, endpoint: ServerEndpoint, queries: GalleryQueries) -> None:
        if queries.store.kind is not self.kind:
            raise ParameterError(f"expected a gallery of kind {self.kind.value}, got {queries.store.kind.value}")
        self.endpoint, self.terms = endpoint, endpoint.terms
        self._store, self._queries = queries.store, queries
        self._accepted = False
        self._admitted: int | None = None  # the line of the log
        self._on_command: OnCommand | None = None
        self._forget()

    @property
    @abstractmethod
    def commands(self) -> Commands:
        """The commands that the session obeys, besides its endpoint's."""

    def _forget(self) -> None:
        self.last_asked: str | None = None
        """The identity that the last command asked about, if the command was a verification and was not refused."""
        self.last_identities: tuple[str | None, ...] = ()
        """The identities that the last command found, if it identified; all None if not revealed to the server."""
        self.last_decisions: tuple[bool | None, ...] = ()
        """The decision of the last command, if it was a verification; None if not revealed to the server."""

    def serve(self, on_done: Callable[[], None] | None = None, on_command: OnCommand | None = None) -> None:
        """Obey commands until the client ends the session.

        Args:
            on_done, on_command: called after every command.

        Raises:
            ProtocolError: a command is malformed.
        """
        self._on_command = on_command
        self.endpoint.serve(self._obey, on_done)

    def _obey(self, command: Command) -> None:
        operation, began = operation_of(command), time.monotonic()
        is_done = self._answer(work_of(command, self.commands), self.rights[operation])
        if self._on_command:
            self._on_command(operation, is_done, time.monotonic() - began)

    def _answer(self, work: Callable[[], None], right: Right) -> bool:
        """Do a command's work, or refuse it; return whether it is done.

        Any other failure ends the session; the client hears only that.
        """
        self._accepted, self._admitted = False, None
        self._forget()
        try:
            self._expect(right)
            work()
        except (QueryLimitError, RefusalError) as error:
            if self._accepted:
                raise
            self._forget()
            self._log_refusal()
            self._refuse(error)
        self.endpoint.report()
        return self._accepted

    def _expect(self, right: Right) -> None:
        """Refuse a command for which the client has no right, before anything else."""
        if self._queries.may is not None and right not in self._queries.may:
            if self._queries.limits:
                self._queries.limits.log(self._queries.client_name, right.value, EVERYONE, False)
            raise RefusalError(f"expected the right to {right.value} here, which this client does not have")

    def _refuse(self, error: HybridFaceError) -> None:
        retry_after = error.retry_after_seconds if isinstance(error, QueryLimitError) else None
        changed = isinstance(error, IndexChangedError)
        document = {"refused": str(error), "retry after": retry_after, "changed": changed}
        self.endpoint.channel.send_document("answer", document)

    def _accept(self, **fields: Any) -> None:
        self._accepted = True
        self.endpoint.channel.send_document("answer", {"refused": None, **fields})

    def _admit(self, operation: str, identity: str | None, tokens: int = 1, enrolled: bool = True) -> None:
        """Count a query and log it, or refuse it: see `QueryLimits.admit`."""
        if self._queries.limits:
            self._admitted = self._queries.limits.admit(
                self._queries.client_name, operation, identity, tokens, enrolled
            )
        self.last_asked = identity

    def _log_refusal(self) -> None:
        """Log that the last admitted query is refused after all, for a reason other than its limit."""
        if self._queries.limits and self._admitted is not None:
            self._queries.limits.mark_refused(self._admitted)
        self._admitted = None

    def _log(self, operation: str, identity: str | None = EVERYONE) -> None:
        """Log an operation that is not a query, and is never limited."""
        if self._queries.limits:
            self._queries.limits.log(self._queries.client_name, operation, identity, True)

    def _decide(self, templates: RingArray) -> None:
        """Verify the probe against an identity's templates (n, d), together with the client."""
        endpoint = self.endpoint
        endpoint.await_prepared(PROBE)
        endpoint.prepare_correlations(decide_requests(*templates.shape))
        probe = endpoint.extract(PROBE)
        with endpoint.recorded_party("distance and threshold") as party:
            self.last_decisions = (decide(party, probe, templates, self.terms.threshold, self.terms.reveal),)
