"""Products of one party's secret matrix and the other's secret vector, modulo 2^64; each party gets a share.

The asker has a vector a (d,) and a key pair; the answerer has a matrix B (n, d). The asker sends encryptions of a. The
answerer multiplies them by polynomials made of B, masks the products with uniform numbers, and sends them back. Its
shares are the masks, negated. The answerer sees ring-LWE encryptions; the asker sees B a plus a uniform vector. `keys`
explains how each is hidden.

**Packing**, for a width g that divides d (except for g = 1, as Cheetah packs a matrix and a vector: USENIX Security
2022, section 3.2.1). Ciphertext j holds a[j g + k] at X^k, for k < g. A block of N / g rows is d / g polynomials.
Polynomial j holds B[r, j g + k] at X^(r g + g - 1 - k). The product of ciphertext j and polynomial j holds at
X^(r g + g - 1) the sum over k of a[j g + k] B[r, j g + k]. The sum of these over j is the product of row r.

| width | up | down |
|---|---|---|
| g = 1 | most: d ciphertexts | least: 20 bytes a row |
| g = d | one ciphertext | N + N / d coefficients for N / d rows |

`ProductShape` chooses the width that sends the fewest bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.arithmetic.residues import RESIDUE_BYTES, SHORT_BYTES
from protocols.encryption.bfv.context import BfvContext
from protocols.encryption.bfv.keys import BfvKeys, BfvPublicKey, Seeded

__all__ = ["Answerer", "ProductShape", "ask", "read_answers"]

_BLOCKS_AT_ONCE = 4
"""Blocks of rows that the answerer answers together: some 10 MB of work."""

Rows = Callable[[int, int], RingArray]
"""Takes `first` and `count`; returns `count` rows of the matrix from row `first` on, uint64 (count, d)."""


@dataclass(frozen=True)
class ProductShape:
    """How a product is packed.

    Args:
        rows: n. dimension: d. degree: N.
    """

    rows: int
    dimension: int
    degree: int

    @cached_property
    def width(self) -> int:
        """g: of the powers of two that divide d and are at most N, the one that sends the fewest bytes."""
        largest = min(self.dimension & -self.dimension, self.degree)
        divisors = [1 << k for k in range(largest.bit_length())]
        return min(divisors, key=self._bytes)

    def _bytes(self, width: int) -> int:
        blocks = -(-self.rows * width // self.degree)
        down = SHORT_BYTES * (blocks * self.degree + self.rows)
        return self.dimension // width * 4 * RESIDUE_BYTES * self.degree + down

    @property
    def ciphertexts(self) -> int:
        """How many ciphertexts hold the vector: d / g."""
        return self.dimension // self.width

    @property
    def rows_of_block(self) -> int:
        """How many rows a block has: N / g."""
        return self.degree // self.width

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The indices of the coefficients that hold a block's products, (N / g,)."""
        return np.arange(self.width - 1, self.degree, self.width)

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield the parts that are answered together: first row, number of rows, number of blocks."""
        step = _BLOCKS_AT_ONCE * self.rows_of_block
        for first in range(0, self.rows, step):
            rows = min(step, self.rows - first)
            yield first, rows, -(-rows // self.rows_of_block)

    def pack_vector(self, vector: RingArray) -> RingArray:
        """Return the polynomials of a vector (d,), uint64 (d / g, N)."""
        packed = np.zeros((self.ciphertexts, self.degree), dtype=np.uint64)
        packed[:, : self.width] = vector.reshape(self.ciphertexts, self.width)
        return packed

    def pack_rows(self, rows: RingArray) -> RingArray:
        """Return the polynomials of a block's rows (at most N / g, d), uint64 (d / g, N)."""
        packed = np.zeros((self.ciphertexts, self.rows_of_block, self.width), dtype=np.uint64)
        parts = rows.reshape(len(rows), self.ciphertexts, self.width)
        packed[:, : len(rows)] = parts[:, :, ::-1].swapaxes(0, 1)
        return packed.reshape(self.ciphertexts, self.degree)


def ask(shape: ProductShape, keys: BfvKeys, vector: RingArray) -> Seeded:
    """Encrypt a vector, uint64 (d,)."""
    return keys.encrypt(shape.pack_vector(vector))


class Answerer:
    """Answers one question.

    Args:
        question: what `ask` returned.
        key: the asker's public key.
        rows: returns rows of the matrix.
    """

    def __init__(
        self, shape: ProductShape, context: BfvContext, key: BfvPublicKey, question: Seeded, rows: Rows
    ) -> None:
        self._shape, self._context, self._key, self._rows = shape, context, key, rows
        self._inputs = question.components(context)
        self._order = np.arange(shape.ciphertexts)

    def answer(self, first: int, count: int, blocks: int) -> tuple[NDArray[np.uint8], RingArray]:
        """Return the message about some rows, and this party's shares of their products, uint64 (count,)."""
        shape, modulus = self._shape, self._context.planes[0].modulus
        totals = self._multiply(first, count)
        masks = random_words(blocks * shape.rows_of_block).reshape(blocks, -1)
        c0, c1 = self._key.hide((totals[0], totals[1]), shape.places, masks)
        kept = np.ascontiguousarray(c0.swapaxes(0, 1).reshape(2, -1)[:, :count])
        message = [modulus.to_short_wire(kept), modulus.to_short_wire(c1).reshape(-1)]
        return np.concatenate(message), np.negative(masks.reshape(-1)[:count])

    def _multiply(self, first: int, count: int) -> list[RingArray]:
        """Return the sums of products, residues (blocks, 2, 2, N) for each pair of primes."""
        shape = self._shape
        bounds = np.array([0, shape.ciphertexts])
        blocks: list[list[RingArray]] = [[], []]
        for start in range(first, first + count, shape.rows_of_block):
            rows = self._rows(start, min(shape.rows_of_block, first + count - start))
            factors = self._context.encode_factors(shape.pack_rows(rows))
            for plane, factor, inputs, sums in zip(self._context.planes, factors, self._inputs, blocks, strict=True):
                arranged = plane.modulus.in_blocks(factor)
                sums.append(plane.modulus.multiply_accumulate(arranged, self._order, bounds, inputs))
        return [np.concatenate(sums) for sums in blocks]


def read_answers(
    shape: ProductShape, context: BfvContext, keys: BfvKeys, message: NDArray[np.uint8], count: int, blocks: int
) -> RingArray:
    """Return the asker's shares of some rows' products, uint64 (count,), from `Answerer.answer`'s message.

    Raises:
        ProtocolError: the message holds a number that is not below the modulus.
    """
    modulus = context.planes[0].modulus
    split = SHORT_BYTES * count
    kept = modulus.from_short_wire(message[:split], "products")
    c1 = modulus.from_short_wire(message[split:].reshape(blocks, -1), "products")
    c0 = np.zeros((2, blocks * shape.rows_of_block), dtype=np.uint64)
    c0[:, :count] = kept
    c0 = np.ascontiguousarray(c0.reshape(2, blocks, -1).swapaxes(0, 1))
    return keys.decrypt(c0, c1, shape.places).reshape(-1)[:count]
