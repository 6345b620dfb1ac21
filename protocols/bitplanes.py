"""Bit planes: 64 elements to a word, so that one instruction works on one bit of 64 elements.

Bit j of word w of plane i is bit i of element 64 w + j. The last word is filled with zeros.
"""

import numpy as np

from protocols.ring import RingArray

__all__ = ["bit_planes", "plane_words", "unpack_plane"]

_STEPS = (
    (32, 0x00000000FFFFFFFF),
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def plane_words(count: int) -> int:
    """Return the words of a plane of `count` elements."""
    return -(-count // 64)


def bit_planes(values: RingArray, bits: int) -> RingArray:
    """Return the low `bits` bit planes, shape (bits, words), of values of shape (count,).

    Every word-sized block of 64 x 64 bits is transposed in six steps (Warren, Hacker's Delight, section 7-3).
    """
    words = plane_words(values.size)
    padded = np.zeros(words * 64, dtype=np.uint64)
    padded[: values.size] = values
    block = np.ascontiguousarray(padded.reshape(words, 64).T)
    for distance, mask in _STEPS:
        pairs = block.reshape(32 // distance, 2, distance, words)
        low, high = pairs[:, 0], pairs[:, 1]
        swap = ((low >> np.uint64(distance)) ^ high) & np.uint64(mask)
        high ^= swap
        low ^= swap << np.uint64(distance)
    return block[:bits]


def unpack_plane(plane: RingArray, count: int) -> RingArray:
    """Return a plane's bits, shape (count,), each 0 or 1."""
    bits = np.unpackbits(np.ascontiguousarray(plane).view(np.uint8), count=count, bitorder="little")
    return bits.astype(np.uint64)
