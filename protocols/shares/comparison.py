"""Compare numbers on shares: sign, interval, ReLU, maximum, max-pool; exact within a stated range.

**Sign.** Both parties hold additive shares of x in Z_2^64, |x| < 2^(k-1), and get shares of [x >= 0]. A
`ComparisonMask` gives them shares of a uniform r, of its bits, and of the bits' products by groups. The parties open
c = x + r, which is uniform. Modulo 2^k, x = c - r, so

    sign(x) = c[k-1] ^ r[k-1] ^ [c' < r'],    c', r' = c, r mod 2^(k-1).

`borrow_tree` computes [c' < r'] on bit planes, 64 elements to a word.

**ReLU.** The parties open one more bit e = [x >= 0] ^ b, where b is a random shared bit. Then x (e ^ b) is linear in
shares of r, b and r b.

**Interval.** Whether x lies in an interval takes one opening and two borrows, of two public numbers and one r.

What each party sees: c, e and the tree's openings. Each is masked by randomness that is used once, so it is uniform.
Failure: none for |x| < 2^(k-1), where the result is exact.

Cost for each element and direction, for k = 32: 8 bytes for c, 17 bits for the tree, one bit for e. This takes
1 + 2 + 1 = 4 rounds.

Sources of the masked opening: Damgard et al., TCC 2006; Escudero et al., CRYPTO 2020 (edaBits), CrypTFlow2 for DReLU.
"""

import numpy as np

from protocols.arithmetic.bitplanes import bit_planes, plane_words, unpack_plane
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT
from protocols.correlations import ComparisonMask, Request
from protocols.correlations.comparison_masks import Cut
from protocols.shares.borrow_tree import borrow, borrow_requests
from protocols.shares.crypten_import import BinarySharedTensor
from protocols.shares.party import MpcParty, binary

__all__ = [
    "COMPARISON_BITS",
    "interval_requests",
    "is_below",
    "is_nonnegative",
    "max_pool",
    "max_pool_requests",
    "maximum",
    "relu",
    "relu_requests",
    "sign_requests",
]

COMPARISON_BITS = 32
"""k for values of unknown range. With 16 fractional bits, comparisons are exact for magnitudes below 2^15."""

_RUN = 1 << 14
"""Elements that a ReLU selects at a time, so that they stay in cache."""


def sign_requests(count: int, bits: int = COMPARISON_BITS, select: bool = False) -> list[Request]:
    """Return the correlations that one comparison of `count` elements uses up."""
    if not count:
        return []
    return [ComparisonMask(count, bits, select), *borrow_requests(Cut.of(bits, True).groups, plane_words(count))]


def relu_requests(count: int, bits: int = COMPARISON_BITS) -> list[Request]:
    """Return the correlations that one ReLU of `count` elements uses up."""
    return sign_requests(count, bits, select=True)


def is_nonnegative(party: MpcParty, share: RingArray, bits: int = COMPARISON_BITS) -> BinarySharedTensor:
    """Return shares of [x >= 0] as a bit plane.

    Args:
        share: uint64 (n,), this party's share of x, |x| < 2^(bits - 1).

    Returns:
        CrypTen `BinarySharedTensor` of ceil(n / 64) words; bit j of word w belongs to element 64 w + j.
    """
    mask, _, *planes = party.correlations.take(ComparisonMask(share.size, bits, select=False))
    return binary(_sign_plane(party, _open(party, share + mask), bits, *planes))


def is_below(party: MpcParty, share: RingArray, bound: int) -> BinarySharedTensor:
    """Return shares of [0 <= x < bound] as a bit plane, for every x.

    x = c - r lies there if and only if r, modulo 2^64, is one of c - bound + 1, ..., c. So the bit is
    [c < r] ^ [c - bound < r] ^ [c < bound]. This takes one opening, two borrows with one mask, and a public bit.

    Args:
        share: uint64 (n,), this party's share of x.
        bound: public, 0 < bound < 2^63.

    Returns:
        As `is_nonnegative`.
    """
    mask, _, lowest, groups = party.correlations.take(_interval_mask(share.size))
    c = _open(party, share + mask)
    not_c = ~np.concatenate([bit_planes(c, 64), bit_planes(c - np.uint64(bound), 64)], axis=1)
    twice = [np.concatenate([planes, planes], axis=-1) for planes in (lowest, groups)]
    above, below = np.split(borrow(party, not_c, *twice), 2)
    plane = above ^ below
    if party.rank == CLIENT:
        plane ^= bit_planes((c < np.uint64(bound)).astype(np.uint64), 1)[0]
    return binary(plane)


def interval_requests(count: int) -> list[Request]:
    """Return the correlations that `is_below` of `count` elements uses up."""
    mask = _interval_mask(count)
    return [mask, *borrow_requests(mask.cut.groups, 2 * plane_words(count))]


def relu(party: MpcParty, share: RingArray, bits: int = COMPARISON_BITS) -> RingArray:
    """Return this party's share of max(x, 0), exactly, for |x| < 2^(bits - 1); any shape, same scale."""
    if not share.size:
        return share
    flat = share.reshape(-1)
    mask, b, *planes, b_value, mask_b = party.correlations.take(ComparisonMask(flat.size, bits))
    c = _open(party, flat + mask)
    choice = _sign_plane(party, c, bits, *planes) ^ b
    choice ^= party.channel.exchange("comparison/choice", choice)
    result = np.empty_like(c)
    for start in range(0, c.size, _RUN):
        run = slice(start, start + _RUN)
        e = unpack_plane(choice[start // 64 :], c[run].size)
        _select(c[run], e, mask[run], b_value[run], mask_b[run], party.rank, out=result[run])
    return result.reshape(share.shape)


def maximum(party: MpcParty, first: RingArray, second: RingArray, bits: int = COMPARISON_BITS) -> RingArray:
    """Return this party's share of max(x, y), for |x - y| < 2^(bits - 1)."""
    return second + relu(party, first - second, bits)


def max_pool(
    party: MpcParty,
    share: RingArray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    bits: int = COMPARISON_BITS,
) -> RingArray:
    """Return this party's share of the maxima over windows: rows first, then columns, each step in one batch.

    Args:
        share: uint64 (B, C, H, W). Padding counts as -2^(bits - 2). With padding, magnitudes must be below
            2^(bits - 2). Then padding is below every value, and differences stay below 2^(bits - 1).
        bits: differences of values must be below 2^(bits - 1).
    """
    for axis in (2, 3):
        k, s, p = kernel[axis - 2], stride[axis - 2], padding[axis - 2]
        share = _pad(share, axis, p, bits, party.rank)
        windows = _windows(share, axis, k, s)
        best = windows[0]
        for window in windows[1:]:
            best = maximum(party, window, best, bits)
        share = best
    return share


def max_pool_requests(
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    bits: int = COMPARISON_BITS,
) -> list[Request]:
    """Return the correlations that one max-pool of shares of that shape uses up."""
    requests: list[Request] = []
    size = list(shape)
    for axis in (2, 3):
        k, s, p = kernel[axis - 2], stride[axis - 2], padding[axis - 2]
        size[axis] = (size[axis] + 2 * p - k) // s + 1
        requests += relu_requests(int(np.prod(size)), bits) * (k - 1)
    return requests


def _pad(share: RingArray, axis: int, amount: int, bits: int, rank: int) -> RingArray:
    if not amount:
        return share
    widths = [(amount, amount) if i == axis else (0, 0) for i in range(share.ndim)]
    low = np.uint64(2**64 - 2 ** (bits - 2)) if rank == CLIENT else np.uint64(0)
    return np.pad(share, widths, constant_values=low)


def _windows(share: RingArray, axis: int, kernel: int, stride: int) -> list[RingArray]:
    """Return, for every offset in the window, the elements at that offset of all windows."""
    count = (share.shape[axis] - kernel) // stride + 1
    stop = (count - 1) * stride + 1
    return [share[(slice(None),) * axis + (slice(offset, offset + stop, stride),)] for offset in range(kernel)]


def _interval_mask(count: int) -> ComparisonMask:
    return ComparisonMask(count, 64, select=False, signed=False)


def _open(party: MpcParty, share: RingArray) -> RingArray:
    share += party.channel.exchange("comparison/masked", share)
    return share


def _sign_plane(
    party: MpcParty, c: RingArray, bits: int, lowest: RingArray, groups: RingArray, top: RingArray
) -> RingArray:
    """Return this party's share of the plane [c - r >= 0] = 1 ^ c[k-1] ^ r[k-1] ^ borrow, from the public c."""
    not_c = bit_planes(c, bits)
    np.invert(not_c, out=not_c)
    plane = top ^ borrow(party, not_c[:-1], lowest, groups)
    if party.rank == CLIENT:
        plane ^= not_c[-1]
    return plane


def _select(c: RingArray, e: RingArray, r: RingArray, b: RingArray, r_b: RingArray, rank: int, out: RingArray) -> None:
    """Write a share of (c - r)(e ^ b) to `out`, from shares of r, b and r b.

    The value is c b - r b if e = 0, and (c - r) - (c b - r b) if e = 1.

    Args:
        c, e: public; e is 0 or 1 and is overwritten.
    """
    np.multiply(c, b, out=out)
    out -= r_b
    flip = np.negative(e, out=e)  # 0, or all ones: then xor and subtraction negate
    out ^= flip
    out -= flip
    value = c - r if rank == CLIENT else np.negative(r)
    value &= flip
    out += value
