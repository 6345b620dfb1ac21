"""Define correlations about a fixed mask: a matrix B that hides many templates for good.

B = B_0 + B_1 modulo 2^64. Each party keeps a seed, and expands its B_i from it by AES-256 in counter mode. Row j begins
at block j d / 2, so any row can be expanded alone. Each row number is used for one template ever, so no row of B hides
two templates. A dealer, if there is one, gets both seeds at the start of a session. It knows B and never sees what B
hides.

- `FixedNorms`: the squared norms of rows of B; made once, when templates are indexed.
- `FixedProduct`: a fresh uniform vector a, and B a; made once for each query.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.kernels import multiply_rows
from protocols.arithmetic.randomness import KEY_BYTES, keystream
from protocols.correlations.request import Field, Request
from protocols.errors import ParameterError

__all__ = ["FixedMask", "FixedNorms", "FixedProduct", "FixedRequest"]

_RUN = 1 << 9
"""Rows that are expanded at a time, so that they stay in cache."""

MAX_ROWS = 1 << 27
"""The most rows of one request."""

ROW_BITS = 56
"""Bits of a row's number. Numbers are never used again, so they may be far from zero."""


@dataclass(frozen=True)
class FixedMask:
    """B, or a party's share of it.

    Args:
        seeds: 32 bytes each: the party's own seed, or for the dealer both parties' seeds.
        dimension: d, even.
    """

    seeds: tuple[bytes, ...] = field(repr=False)
    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 2 or self.dimension % 2 or any(len(seed) != KEY_BYTES for seed in self.seeds):
            raise ParameterError(f"expected seeds of {KEY_BYTES} bytes and an even dimension, got {self.dimension}")

    def rows(self, first: int, count: int) -> RingArray:
        """Return `count` rows from row `first` on, uint64 (count, d)."""
        counter = (first * self.dimension // 2).to_bytes(16, "big")
        total = keystream(self.seeds[0], counter, count * self.dimension)
        for seed in self.seeds[1:]:
            total += keystream(seed, counter, count * self.dimension)
        return total.reshape(count, self.dimension)

    def runs(self, first: int, count: int) -> Iterator[tuple[slice, RingArray]]:
        """Yield the same rows some at a time, each run with its place among the `count`."""
        for start in range(0, count, _RUN):
            run = min(_RUN, count - start)
            yield slice(start, start + run), self.rows(first + start, run)

    def product(self, vector: RingArray, first: int, count: int) -> RingArray:
        """Return the product of rows with a vector (d,), uint64 (count,)."""
        result = np.zeros(count, dtype=np.uint64)
        for place, rows in self.runs(first, count):
            multiply_rows(rows, vector, result[place])
        return result

    def norms(self, first: int, count: int) -> RingArray:
        """Return the squared norms of rows, modulo 2^64."""
        return np.concatenate([(rows * rows).sum(axis=1, dtype=np.uint64) for _, rows in self.runs(first, count)])


@dataclass(frozen=True)
class FixedRequest(Request):
    """A correlation about rows of the fixed mask. Both parties must first tell their shares of it (`tell_mask`).

    Args:
        first: the number of the first row.
        rows: how many rows.
        dimension: d.
    """

    first: int
    rows: int
    dimension: int

    def __post_init__(self) -> None:
        if not (0 <= self.first < 1 << ROW_BITS and 0 < self.rows <= MAX_ROWS):
            raise ParameterError(f"expected 1 to {MAX_ROWS} rows below 2^{ROW_BITS}, got {self.rows} from {self.first}")

    @property
    def derived(self) -> tuple[Field, ...]:
        return (Field((self.rows,)),)

    @abstractmethod
    def derive_with(self, mask: FixedMask, values: Sequence[RingArray]) -> list[RingArray]:
        """Return the values of the derived fields from the mask and the values of the uniform fields."""


@dataclass(frozen=True)
class FixedNorms(FixedRequest):
    """The squared norm of every row."""

    kind: ClassVar[str] = "fixed-norms"

    @property
    def uniform(self) -> tuple[Field, ...]:
        return ()

    def derive_with(self, mask: FixedMask, values: Sequence[RingArray]) -> list[RingArray]:
        return [mask.norms(self.first, self.rows)]


@dataclass(frozen=True)
class FixedProduct(FixedRequest):
    """A uniform vector a (d,), and the rows' products with it (rows,)."""

    kind: ClassVar[str] = "fixed-product"

    @property
    def uniform(self) -> tuple[Field, ...]:
        return (Field((self.dimension,)),)

    def derive_with(self, mask: FixedMask, values: Sequence[RingArray]) -> list[RingArray]:
        (a,) = values
        return [mask.product(a, self.first, self.rows)]
