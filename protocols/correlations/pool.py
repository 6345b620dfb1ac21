"""Correlations that are made but not used yet: what every source keeps, first made, first used."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.request import Request
from protocols.errors import ParameterError

__all__ = ["CorrelationPool"]


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
