"""Compute layers that need no interaction, on each party's own share: sums, means and padding.

Truncation is local. Each party shifts its own share, the server as a negative number. Over the integers,
u0 + u1 = x + 2^64 then gives

    floor(u0 / 2^t) - floor((2^64 - u1) / 2^t) = x / 2^t.

This is off by at most one last bit, except with probability (|x| + 1) / 2^64 (SecureML, IEEE S&P 2017, theorem 1).
x is the integer before the shift. For a mean over n elements, n no power of two, it is 2^16 times the mean.
"""

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT

__all__ = ["average_pool", "average_scale", "pad", "truncate_locally"]

_MEAN_BITS = 16


def truncate_locally(share: RingArray, bits: int, rank: int) -> RingArray:
    """Return this party's share of x / 2^bits; 0 <= bits < 64."""
    shift = np.uint64(bits)
    if rank == CLIENT:
        return share >> shift
    return np.uint64(0) - ((np.uint64(0) - share) >> shift)


def average_scale(count: int) -> tuple[int, int]:
    """Return (factor, bits) with factor / 2^bits = 1 / count: exactly for a power of two, else to 16 bits."""
    if count & (count - 1) == 0:
        return 1, count.bit_length() - 1
    return round(2**_MEAN_BITS / count), _MEAN_BITS


def average_pool(share: RingArray, kernel: tuple[int, int], stride: tuple[int, int], rank: int) -> RingArray:
    """Return this party's share of the means over windows, from a share of shape (B, C, H, W)."""
    windows = np.lib.stride_tricks.sliding_window_view(share, kernel, axis=(2, 3))
    total = windows[:, :, :: stride[0], :: stride[1]].sum(axis=(4, 5), dtype=np.uint64)
    factor, bits = average_scale(kernel[0] * kernel[1])
    return truncate_locally(total * np.uint64(factor), bits, rank)


def pad(share: RingArray, amount: tuple[int, int, int]) -> RingArray:
    """Append zeros, on both sides, after the last channel, row and column of a share (B, C, H, W)."""
    return np.pad(share, [(0, 0), *((0, n) for n in amount)])
