"""Products of one party's secret matrix with the other's secret vector, modulo 2^64, of which each gets a share.

The asker has a vector a (d,) and a key pair, the answerer a matrix B (n, d). The asker sends encryptions of a; the
answerer multiplies by polynomials made of B, masks with uniform numbers, which are its shares, negated, and sends the
rest. See `keys` for what hides what; the answerer sees ring-LWE encryptions, the asker B a plus a uniform vector.

Packing, for a width g that divides d (as for a matrix and a vector in Cheetah, USENIX Security 2022, section 3.2.1, but
for g = 1). Ciphertext j holds a[j g + k] at X^k, k < g. A block of N / g rows is d / g polynomials, of which the j-th
holds B[r, j g + k] at X^(r g + g - 1 - k). The product of both has at X^(r g + g - 1) the sum over k of a[j g + k]
B[r, j g + k], and the sum over j is the row's product. g = 1 sends most up and least down: d ciphertexts, and 20 bytes
a row; g = d one ciphertext, and N + N / d coefficients for N / d rows. The width is chosen that sends least.
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
"""Blocks of rows that are answered together: some 10 MB of work."""

Rows = Callable[[int, int], RingArray]
"""Returns rows `first`, ..., uint64 (count, d)."""


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
        """g: the power of two that divides d, and is at most N, and sends least."""
        largest = min(self.dimension & -self.dimension, self.degree)
        divisors = [1 << k for k in range(largest.bit_length())]
        return min(divisors, key=self._bytes)

    def _bytes(self, width: int) -> int:
        blocks = -(-self.rows * width // self.degree)
        down = SHORT_BYTES * (blocks * self.degree + self.rows)
        return self.dimension // width * 4 * RESIDUE_BYTES * self.degree + down

    @property
    def ciphertexts(self) -> int:
        """d / g, of the vector."""
        return self.dimension // self.width

    @property
    def rows_of_block(self) -> int:
        """N / g."""
        return self.degree // self.width

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where a block's products are, (N / g,)."""
        return np.arange(self.width - 1, self.degree, self.width)

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield what is answered together: the first row, how many rows, and in how many blocks."""
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
        rows: of the matrix.
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
        ProtocolError: it holds no numbers below the modulus.
    """
    modulus = context.planes[0].modulus
    split = SHORT_BYTES * count
    kept = modulus.from_short_wire(message[:split], "products")
    c1 = modulus.from_short_wire(message[split:].reshape(blocks, -1), "products")
    c0 = np.zeros((2, blocks * shape.rows_of_block), dtype=np.uint64)
    c0[:, :count] = kept
    c0 = np.ascontiguousarray(c0.reshape(2, blocks, -1).swapaxes(0, 1))
    return keys.decrypt(c0, c1, shape.places).reshape(-1)[:count]
