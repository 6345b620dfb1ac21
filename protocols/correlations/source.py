"""Where the online protocols take correlations from: one interface for a dealer, and for oblivious transfer.

What is made and not used yet waits in a pool, first made, first used.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.fixed_mask import FixedMask
from protocols.correlations.request import Request
from protocols.errors import ParameterError

__all__ = ["CorrelationPool", "CorrelationSource"]


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


class CorrelationPool:
    """A party's shares by what was asked for."""

    def __init__(self) -> None:
        self._pool: dict[Request, deque[list[RingArray]]] = {}

    def put(self, request: Request, shares: Sequence[RingArray]) -> None:
        """Add a party's shares of one correlation: uniform fields, then derived ones.

        Raises:
            ParameterError: they are not that correlation's.
        """
        shapes = [field.shape for field in (*request.uniform, *request.derived)]
        if [share.shape for share in shares] != shapes or any(share.dtype != np.uint64 for share in shares):
            raise ParameterError(f"expected shares of {request}, got {[share.shape for share in shares]}")
        self._pool.setdefault(request, deque()).append(list(shares))

    def _pooled(self, request: Request) -> list[RingArray] | None:
        """Return the oldest shares of a correlation, for the last time; None if there are none."""
        queue = self._pool.get(request)
        return queue.popleft() if queue else None
