"""Comparison on shares: sign, ReLU, maximum, max-pool; exact within a stated range.

Both parties hold additive shares of x in Z_2^64 and want shares of [x >= 0], |x| < 2^(k-1). With a shared uniform r
whose bits are shared as well (a `ComparisonMask`), they open c = x + r, which is uniform. Modulo 2^k, x = c - r, so

    sign(x) = c[k-1] ^ r[k-1] ^ [c' < r'],    c', r' = c, r mod 2^(k-1).

[c' < r'] is a tree of (generate, propagate) pairs over the bits: (g, p) = (~c r, ~(c ^ r)), joined as (g1 ^ p1 g0, p1
p0). The first level costs nothing: c is public and the products of neighbouring bits of r come with the mask. Every
further level is one CrypTen AND (Beaver) on bit planes, 64 elements to a word. A ReLU opens one more bit e = [x >= 0]
^ b, b a random shared bit, and computes x (e ^ b) linearly from shares of r, b and r b. What each party sees: c, e and
Beaver openings, all uniform. Exact: no failure for |x| < 2^(k-1).

Per element and direction for k = 32: 8 bytes for c, 44 bits for the tree, one bit for e, in 1 + log2(k / 2) + 1 = 6
rounds. The tree: Damgard et al., TCC 2006; the masked opening: Escudero et al., CRYPTO 2020 (edaBits), CrypTFlow2 for
DReLU.
"""

from collections.abc import Iterator

import numpy as np
import torch

from protocols.bitplanes import bit_planes, plane_words, unpack_plane
from protocols.correlations import BinaryTriple, ComparisonMask, Request
from protocols.crypten_import import BinarySharedTensor, beaver
from protocols.errors import ParameterError
from protocols.mpc import CLIENT, MpcParty, binary, to_ring
from protocols.ring import RingArray

__all__ = [
    "COMPARISON_BITS",
    "is_nonnegative",
    "max_pool",
    "max_pool_requests",
    "maximum",
    "relu",
    "relu_requests",
    "sign_requests",
]

COMPARISON_BITS = 32
"""k: with 16 fractional bits, values of magnitude below 2^15 are compared exactly."""


def sign_requests(count: int, bits: int = COMPARISON_BITS, select: bool = False) -> list[Request]:
    """Return the correlations that one comparison of `count` elements uses up."""
    if not count:
        return []
    words = plane_words(count)
    triples = [
        BinaryTriple((1, nodes // 2, words), (1 if nodes == 2 else 2, nodes // 2, words)) for nodes in _levels(bits)
    ]
    return [ComparisonMask(count, bits, select), *triples]


def relu_requests(count: int) -> list[Request]:
    """Return the correlations that one ReLU of `count` elements uses up."""
    return sign_requests(count, select=True)


def is_nonnegative(party: MpcParty, share: RingArray, bits: int = COMPARISON_BITS) -> BinarySharedTensor:
    """Return shares of [x >= 0] as a bit plane.

    Args:
        share: uint64 (n,), this party's share of x, |x| < 2^(bits - 1).

    Returns:
        CrypTen `BinarySharedTensor` of ceil(n / 64) words; bit j of word w belongs to element 64 w + j.
    """
    mask, planes, pairs = _take_mask(party, share.size, bits, select=False)
    return _sign_plane(party, _open(party, share + mask), planes, pairs)


def relu(party: MpcParty, share: RingArray) -> RingArray:
    """Return this party's share of max(x, 0), exactly, for |x| < 2^31; any shape, same scale."""
    if not share.size:
        return share
    flat = share.reshape(-1)
    fields = party.correlations.take(ComparisonMask(flat.size, COMPARISON_BITS, True))
    r, b, planes, pairs, b_value, r_b = fields
    c = _open(party, flat + r)
    sign = _sign_plane(party, c, planes, pairs)
    e = unpack_plane(to_ring((sign ^ binary(b)).reveal()), flat.size)
    # x (e ^ b) = (c - r)(e + (1 - 2e) b), and only r, b and r b are shared.
    flip = np.uint64(1) - np.uint64(2) * e
    result = flip * (c * b_value - r_b) - e * r
    if party.rank == CLIENT:
        result += c * e
    return result.reshape(share.shape)


def maximum(party: MpcParty, first: RingArray, second: RingArray) -> RingArray:
    """Return this party's share of max(x, y), for |x - y| < 2^31."""
    return second + relu(party, first - second)


def max_pool(
    party: MpcParty,
    share: RingArray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
) -> RingArray:
    """Return this party's share of the maxima over windows: rows first, then columns, each step in one batch.

    Args:
        share: uint64 (B, C, H, W). Padding counts as -2^29, below every value it may meet.
    """
    for axis in (2, 3):
        k, s, p = kernel[axis - 2], stride[axis - 2], padding[axis - 2]
        share = _pad(share, axis, p, party.rank)
        windows = _windows(share, axis, k, s)
        best = windows[0]
        for window in windows[1:]:
            best = maximum(party, window, best)
        share = best
    return share


def max_pool_requests(
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
) -> list[Request]:
    """Return the correlations that one max-pool of shares of that shape uses up."""
    requests: list[Request] = []
    size = list(shape)
    for axis in (2, 3):
        k, s, p = kernel[axis - 2], stride[axis - 2], padding[axis - 2]
        size[axis] = (size[axis] + 2 * p - k) // s + 1
        requests += relu_requests(int(np.prod(size))) * (k - 1)
    return requests


def _pad(share: RingArray, axis: int, amount: int, rank: int) -> RingArray:
    if not amount:
        return share
    widths = [(amount, amount) if i == axis else (0, 0) for i in range(share.ndim)]
    low = np.uint64(2**64 - 2**29) if rank == CLIENT else np.uint64(0)
    return np.pad(share, widths, constant_values=low)


def _windows(share: RingArray, axis: int, kernel: int, stride: int) -> list[RingArray]:
    """Return, for every offset in the window, the elements at that offset of all windows."""
    count = (share.shape[axis] - kernel) // stride + 1
    stop = (count - 1) * stride + 1
    return [share[(slice(None),) * axis + (slice(offset, offset + stop, stride),)] for offset in range(kernel)]


def _levels(bits: int) -> Iterator[int]:
    """The number of nodes that enter each level of the tree after the first, free, one: bits / 2, ..., 2."""
    nodes = bits // 2
    while nodes > 1:
        yield nodes
        nodes //= 2


def _take_mask(party: MpcParty, count: int, bits: int, select: bool) -> tuple[RingArray, RingArray, RingArray]:
    r, _, planes, pairs = party.correlations.take(ComparisonMask(count, bits, select))
    return r, planes, pairs


def _open(party: MpcParty, share: RingArray) -> RingArray:
    return share + party.channel.exchange("comparison/masked", share)


def _sign_plane(party: MpcParty, c: RingArray, planes: RingArray, pairs: RingArray) -> BinarySharedTensor:
    """Return shares of [c - r >= 0] from the public c and the shared bit planes of r."""
    bits = len(planes)
    if bits < 4:
        raise ParameterError(f"expected at least 4 bits, got {bits}")
    not_c = ~bit_planes(c, bits)
    generate, propagate = _first_level(not_c, planes, pairs, party.rank)
    for nodes in _levels(bits):
        generate, propagate = _join(generate, propagate, nodes)
    borrow = to_ring(generate)[0]
    # [x >= 0] = 1 ^ c[k-1] ^ r[k-1] ^ borrow; the public part is the client's.
    public = not_c[bits - 1] if party.rank == CLIENT else np.zeros_like(borrow)
    return binary(public ^ planes[bits - 1] ^ borrow)


def _first_level(
    not_c: RingArray, r: RingArray, pairs: RingArray, rank: int
) -> tuple[BinarySharedTensor, BinarySharedTensor]:
    """Join bits 2i and 2i + 1 of the low k - 1 bits: linear in shares of r and of r[2i+1] r[2i], since c is public."""
    low, high = not_c[0:-2:2], not_c[1:-1:2]
    r_low, r_high = r[0:-2:2], r[1:-1:2]
    generate = (high & r_high) ^ (high & low & r_low) ^ (low & pairs)
    propagate = (high & r_low) ^ (low & r_high) ^ pairs
    # The top bit of the k - 1 has no neighbour.
    last_generate, last_propagate = not_c[-2] & r[-2], r[-2].copy()
    if rank == CLIENT:
        propagate ^= high & low
        last_propagate ^= not_c[-2]
    return (
        binary(np.concatenate([generate, last_generate[None]])),
        binary(np.concatenate([propagate, last_propagate[None]])),
    )


def _join(
    generate: BinarySharedTensor, propagate: BinarySharedTensor, nodes: int
) -> tuple[BinarySharedTensor, BinarySharedTensor]:
    """One level of the tree: (g1 ^ p1 g0, p1 p0) for neighbours, in one AND and one round."""
    g, p = generate.share, propagate.share
    low = g[None, 0::2] if nodes == 2 else torch.stack([g[0::2], p[0::2]])
    joined = beaver.AND(_binary(p[None, 1::2]), _binary(low)).share
    return _binary(g[1::2] ^ joined[0]), _binary(joined[-1])


def _binary(share: torch.Tensor) -> BinarySharedTensor:
    return BinarySharedTensor.from_shares(share, precision=0)
