"""Share code between the client's sides of gallery sessions: refusable commands, and the run on the probe."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import MOST_SECONDS, IndexChangedError, QueryRefusedError
from parties.gallery.index.search import PROBE, TOP_MAX, decide
from parties.session.client import MatchResult
from parties.session.client_endpoint import ClientEndpoint
from parties.session.cost import OFFLINE, ONLINE, CostReport
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import printable
from protocols.correlations import Request
from protocols.document import Document, boolean, number, optional, text
from protocols.errors import ParameterError
from protocols.shares.party import MpcParty

__all__ = ["GalleryClientSession", "Identification", "check_top"]

_MAX_REASON = 1000


@dataclass(frozen=True)
class Identification:
    """The outcome of an identification.

    Args:
        identities: the nearest identities, nearest first, as many as were asked for or as there are. None stands for
            an identity that is not under the threshold. All are None if the outcome was opened to the server alone.
        cost: of the query, with the offline work since the last result.
        was_prepared: whether all of the offline phase was done before the query. If not, the query waited for it.
    """

    identities: tuple[str | None, ...]
    cost: CostReport = field(repr=False)
    was_prepared: bool = False

    @property
    def identity(self) -> str | None:
        """The nearest identity, or None for "unknown"."""
        return self.identities[0]


class GalleryClientSession(ABC):
    """The client's side of a session about a gallery of either kind. Use as a context manager.

    Args:
        endpoint: the client's, of this session.
    """

    def __init__(self, endpoint: ClientEndpoint) -> None:
        self.endpoint, self.terms = endpoint, endpoint.terms

    @abstractmethod
    def verify_identity(self, identity: str, image: NDArray[np.float64]) -> MatchResult:
        """Compare a photo (1, C, H, W) with the nearest photo of an identity.

        Raises:
            QueryRefusedError: the identity is not enrolled, or the client asked about it too often.
        """

    @abstractmethod
    def update_index(self) -> CostReport:
        """Prepare identifications for everybody who was enrolled or removed since the last update."""

    @abstractmethod
    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        Args:
            top: how many identities to return, at most 64.

        Raises:
            QueryRefusedError: the client asked too often, or nobody is enrolled.
        """

    def end(self) -> None:
        """End the session: server and dealer stop waiting for commands."""
        self.endpoint.end()

    def fail(self, error: BaseException) -> None:
        """Tell the peers that this side ends."""
        self.endpoint.fail(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self.endpoint.failure(error)
        self.fail(failure) if failure else self.end()

    def _tell(self, command: dict[str, Any]) -> None:
        """Send a command whose answer has no fields: see `_ask`."""
        self._ask(command).end()

    def _ask(self, command: dict[str, Any]) -> Document:
        """Send a command, and return the server's answer. The caller takes its fields.

        Raises:
            QueryRefusedError: the server refuses the command; the session goes on.
            IndexChangedError: the same, because the gallery has changed since it was indexed.
        """
        self.endpoint.command(command)
        answer = self.endpoint.channel.receive_document("answer")
        if (reason := answer.take("refused", optional(text(_MAX_REASON)))) is None:
            return answer
        with answer:
            seconds = answer.take("retry after", optional(number(0, MOST_SECONDS)))
            changed = answer.take("changed", boolean)
        self.endpoint.finish()
        if changed:
            raise IndexChangedError(printable(reason, 200))
        raise QueryRefusedError(printable(reason, 200), seconds)

    def _prepare_probe(self) -> bool:
        """Prepare a run of one photo if none is; return whether one was prepared before."""
        ready = self.endpoint.is_prepared(PROBE)
        if not ready:
            self.endpoint.prepare(PROBE)
        return ready

    def _embed(self, value: RingArray) -> RingArray:
        """Run the network on one photo, after the server has accepted the command."""
        self.endpoint.pool.take(PROBE)
        return self.endpoint.run_network(value)

    def _prepare_now(self, requests: Sequence[Request]) -> None:
        with self.endpoint.recorder.recording(OFFLINE, "correlations"):
            self.endpoint.source.prepare(list(requests))

    def _decide(self, probe: RingArray, templates: RingArray) -> bool | None:
        """Open whether the nearest of an identity's templates (n, d) is within the threshold of the probe (1, d)."""
        with self._recorded_party("distance and threshold") as party:
            return decide(party, probe, templates, self.terms.threshold, self.terms.reveal)

    @contextmanager
    def _recorded_party(self, stage: str, phase: str = ONLINE) -> Iterator[MpcParty]:
        """Enter a party, and record its work as one stage."""
        with self.endpoint.recorder.recording(phase, stage), self.endpoint.party() as party:
            yield party


def check_top(top: int) -> None:
    """Check how many identities a query asks for.

    Raises:
        ParameterError: fewer than 1, or too many.
    """
    if not 0 < top <= TOP_MAX:
        raise ParameterError(f"expected to ask for 1 to {TOP_MAX} identities, got {top}")
