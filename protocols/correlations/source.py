"""Where the online protocols take correlations from: one interface for a dealer, and for oblivious transfer."""

from collections.abc import Sequence
from typing import Protocol

from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.fixed_mask import FixedMask
from protocols.correlations.request import Request

__all__ = ["CorrelationSource"]


class CorrelationSource(Protocol):
    """One party's end. Both parties make the same calls in the same order."""

    def prepare(self, requests: Sequence[Request]) -> None:
        """Make correlations ahead of time (offline)."""

    def put(self, request: Request, shares: Sequence[RingArray]) -> None:
        """Add shares of one correlation that were taken out of such a source before, and were not used."""

    def take(self, request: Request) -> list[RingArray]:
        """Return this party's shares of one correlation (uniform fields, then derived), never given out before."""

    def tell_mask(self, mask: FixedMask) -> None:
        """Take this party's share of a fixed mask, for the rest of the session."""

    def end(self) -> None:
        """Let others who take part end: the client's side calls it."""
