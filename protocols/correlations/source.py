"""Supply the online protocols with correlations: one interface for a dealer, and for oblivious transfer.

A pool keeps the correlations that are made and not used yet. The first one made is the first one used.
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
        """Put back shares of one correlation that were taken out of such a source and not used."""

    def take(self, request: Request) -> list[RingArray]:
        """Return this party's shares of one correlation, uniform fields before derived ones; never the same twice."""

    def tell_mask(self, mask: FixedMask) -> None:
        """Accept this party's share of a fixed mask, for the rest of the session."""

    def end(self) -> None:
        """Let a third party that takes part end. The client's side calls this."""


class CorrelationPool:
    """A party's unused shares, by request."""

    def __init__(self) -> None:
        self._pool: dict[Request, deque[list[RingArray]]] = {}

    def put(self, request: Request, shares: Sequence[RingArray]) -> None:
        """Add a party's shares of one correlation: uniform fields, then derived ones.

        Raises:
            ParameterError: the shares do not fit the request.
        """
        shapes = [field.shape for field in (*request.uniform, *request.derived)]
        if [share.shape for share in shares] != shapes or any(share.dtype != np.uint64 for share in shares):
            raise ParameterError(f"expected shares of {request}, got {[share.shape for share in shares]}")
        self._pool.setdefault(request, deque()).append(list(shares))

    def _pooled(self, request: Request) -> list[RingArray] | None:
        """Remove and return the oldest shares of a correlation; return None if there are none."""
        queue = self._pool.get(request)
        return queue.popleft() if queue else None
