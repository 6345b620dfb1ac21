"""Bit planes: 64 elements to a word, so that one instruction works on one bit of 64 elements.

Bit j of word w of plane i is bit i of element 64 w + j. Zeros fill up the last word.
"""

import numpy as np

from protocols.arithmetic.fixed_point import RingArray

__all__ = ["all_products", "bit_planes", "plane_words", "subset_products", "unpack_plane"]

_RUN = 512
"""Words of a plane that `bit_planes` computes at a time: 256 KiB of values."""

_STEPS = tuple(
    (distance, np.uint64(mask))
    for distance, mask in (
        (32, 0x00000000FFFFFFFF),
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    )
)


def plane_words(count: int) -> int:
    """Return how many words a plane of `count` elements has."""
    return -(-count // 64)


def bit_planes(values: RingArray, bits: int) -> RingArray:
    """Return the low `bits` bit planes, uint64 (bits, words), of values of shape (count,).

    Six steps transpose each block of 64 x 64 bits (Warren, Hacker's Delight, section 7-3). A step swaps halves of
    halves, or drops a half that holds no wanted bit. The function works on one run of words at a time, which stays in
    cache.
    """
    words = plane_words(values.size)
    planes = np.empty((bits, words), dtype=np.uint64)
    for start in range(0, words, _RUN):
        part = values[64 * start : 64 * (start + _RUN)]
        run = plane_words(part.size)
        if part.size < 64 * run:
            part = np.concatenate([part, np.zeros(64 * run - part.size, dtype=np.uint64)])
        planes[:, start : start + run] = _transpose(part.reshape(run, 64).T.copy(), bits)
    return planes


def _transpose(block: RingArray, bits: int) -> RingArray:
    """Transpose 64 x 64 bits in every column of shape (64, words), in place; return the first `bits` rows."""
    words = block.shape[1]
    for distance, mask in _STEPS:
        pairs = block.reshape(-1, 2, distance, words)
        low, high = pairs[:, 0], pairs[:, 1]
        if distance >= bits:
            block = (low & mask) | ((high & mask) << np.uint64(distance))
            continue
        swap = low >> np.uint64(distance)
        swap ^= high
        swap &= mask
        high ^= swap
        swap <<= np.uint64(distance)
        low ^= swap
    return block.reshape(-1, words)[:bits]


def unpack_plane(plane: RingArray, count: int) -> RingArray:
    """Return a plane's bits, shape (count,), each 0 or 1."""
    bits = np.unpackbits(np.ascontiguousarray(plane).view(np.uint8), count=count, bitorder="little")
    return bits.astype(np.uint64)


def subset_products(bits: RingArray) -> RingArray:
    """Return the products of all non-empty sets of bits, shape (2^t - 1, ...), for bits of shape (t, ...).

    Row S - 1 holds the product of the set with number S. Bit i of S says whether bits[i] is in the set.
    """
    products = np.empty((2 ** len(bits) - 1, *bits.shape[1:]), dtype=np.uint64)
    for i, bit in enumerate(bits):
        number = 1 << i
        products[number - 1] = bit
        np.bitwise_and(products[: number - 1], bit, out=products[number : 2 * number - 1])
    return products


def all_products(singles: RingArray, several: RingArray) -> RingArray:
    """Return the products of all non-empty sets of bits, in the order of `subset_products`.

    Args:
        singles: (t, ...), the products of the sets of one bit.
        several: (2^t - 1 - t, ...), the products of the sets of two or more bits, in the order of the sets' numbers.
    """
    products = np.empty((2 ** len(singles) - 1, *singles.shape[1:]), dtype=np.uint64)
    numbers = range(1, len(products) + 1)
    products[[number - 1 for number in numbers if number.bit_count() == 1]] = singles
    products[[number - 1 for number in numbers if number.bit_count() > 1]] = several
    return products
