"""Fixed point in Z_2^64, the ring of the shares.

A real x is held as the integer round(x 2^f) mod 2^64, with f = 16. Two shares add up to it: u0 + u1 = x mod 2^64, with
u0 uniform. Each share alone is uniform and says nothing.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.arithmetic.randomness import random_words
from protocols.errors import ParameterError

__all__ = ["FRACTION_BITS", "RingArray", "decode", "encode", "random_ring", "share"]

RingArray = NDArray[np.uint64]
"""Elements of Z_2^64, or residues: numpy uint64, any shape."""

FRACTION_BITS = 16
"""Fixed point: a real x is round(x 2^16) in Z_2^64."""


def encode(values: ArrayLike, fraction_bits: int = FRACTION_BITS) -> RingArray:
    """Encode reals as fixed point, rounded to the nearest integer (ties to even).

    Args:
        values: real numbers, any shape, |x| < 2^(62 - fraction_bits).

    Raises:
        ParameterError: a value is not finite or too large.
    """
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 2.0**fraction_bits)
    if not np.all(np.abs(scaled) < 2.0**62):  # also catches nan
        raise ParameterError(f"fixed point takes finite |x| < 2^{62 - fraction_bits}, got a value outside")
    return scaled.astype(np.int64).view(np.uint64)


def decode(ring: RingArray, fraction_bits: int = FRACTION_BITS) -> NDArray[np.float64]:
    """Decode fixed point to float64; the upper half of the ring stands for negative numbers."""
    return np.ascontiguousarray(ring).view(np.int64).astype(np.float64) / 2.0**fraction_bits


def random_ring(shape: int | tuple[int, ...]) -> RingArray:
    """Draw uniform elements of Z_2^64 that can hide secrets (see `randomness`)."""
    return random_words(int(np.prod(shape))).reshape(shape)


def share(ring: RingArray) -> tuple[RingArray, RingArray]:
    """Split ring elements into two additive shares, each of them uniform."""
    first = random_ring(ring.shape)
    return first, ring - first
