"""What the client's sides of sessions about galleries share: commands that may be refused, and the probe's network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import IndexChangedError, QueryRefusedError
from parties.gallery.index.search import PROBE, TOP_MAX
from parties.session.client import ClientSession, MatchResult
from parties.session.cost import OFFLINE, CostReport
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, printable
from protocols.correlations import Request
from protocols.errors import ParameterError, ProtocolError
from protocols.shares.party import MpcParty

__all__ = ["GalleryClientSession", "Identification", "check_top"]

_MAX_SECONDS = 1e12


@dataclass(frozen=True)
class Identification:
    """The outcome of an identification.

    Args:
        identities: the nearest ones under the threshold, nearest first, as many as were asked for or as there are; None
            in place of those above it, and of all if the outcome was opened to the server alone.
        cost: of the query, with the offline work since the last result.
        was_prepared: whether all of the offline work had been done before; if not, it was done while it waited.
    """

    identities: tuple[str | None, ...]
    cost: CostReport = field(repr=False)
    was_prepared: bool = False

    @property
    def identity(self) -> str | None:
        """The nearest identity, or None for "unknown"."""
        return self.identities[0]


class GalleryClientSession(ClientSession):
    """The client's side of a session about a gallery of either kind. The arguments are those of `ClientSession`."""

    _refilled = PROBE

    def verify_identity(self, identity: str, image: NDArray[np.float64]) -> MatchResult:
        """Compare a photo (1, C, H, W) with an identity: with the nearest of its photos.

        Raises:
            QueryRefusedError: it is not enrolled, or was asked about too often.
        """
        raise NotImplementedError

    def update_index(self) -> CostReport:
        """Do what identifications need of all that was enrolled, or removed, since the last time."""
        raise NotImplementedError

    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        Args:
            top: how many, at most 64.

        Raises:
            QueryRefusedError: the server has answered too often, or nobody is enrolled.
        """
        raise NotImplementedError

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command, and return the server's answer.

        Raises:
            QueryRefusedError: the server does not do it; the session goes on. IndexChangedError: the same, since the
                gallery is not as it was indexed.
        """
        self._command(command)
        answer = self._channel.receive_document("answer")
        if (reason := answer.get("refused")) is not None:
            self._finish()
            if answer.get("changed") is True:
                raise IndexChangedError(printable(reason, 200))
            raise QueryRefusedError(printable(reason, 200), _seconds(answer.get("retry after")))
        return answer

    def _probe_is_prepared(self) -> bool:
        """Return whether a run of one photo is prepared, here or by an earlier session."""
        self._check_refill()
        self._restore_saved(PROBE)
        return self._pool.ready(PROBE) > 0

    def _prepare_probe(self) -> bool:
        """Have a run of one photo prepared, and return whether it was."""
        ready = self._probe_is_prepared()
        if not ready:
            self._pool.prepare(PROBE)
        return ready

    def _prepare_admitted(self) -> None:
        """Have a run of one photo prepared, for a command that the server has accepted and that waits for it."""
        self._running = False
        try:
            self._prepare_probe()
        finally:
            self._running = True

    def _embed(self, value: RingArray) -> RingArray:
        """Run the network on one photo, after the server has accepted to."""
        self._pool.take(PROBE)
        return self._run_network(value)

    def _prepare_now(self, requests: Sequence[Request]) -> None:
        with self._recorder.recording(OFFLINE, "correlations"):
            self._source.prepare(list(requests))

    def _party(self) -> MpcParty:
        return MpcParty(CLIENT, self._channel, self._source)


def _seconds(value: Any) -> float | None:
    """Return after how long a query may be asked again, in the server's words; None if it does not say."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SECONDS:
        raise ProtocolError(f"expected seconds until the next query, got {printable(value)}")
    return float(value)


def check_top(top: int) -> None:
    """Check how many identities a query asks for.

    Raises:
        ParameterError: none, or too many.
    """
    if not 0 < top <= TOP_MAX:
        raise ParameterError(f"expected to ask for 1 to {TOP_MAX} identities, got {top}")
