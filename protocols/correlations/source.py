"""Where the online protocols take correlations from: one interface for a dealer, and for oblivious transfer later."""

from collections.abc import Sequence
from typing import Protocol

from protocols.correlations.request import Request
from protocols.ring import RingArray

__all__ = ["CorrelationSource"]


class CorrelationSource(Protocol):
    """One party's end. Both parties make the same calls in the same order."""

    def prepare(self, requests: Sequence[Request]) -> None:
        """Make correlations ahead of time (offline)."""

    def take(self, request: Request) -> list[RingArray]:
        """Return this party's shares of one correlation (uniform fields, then derived), never given out before."""
