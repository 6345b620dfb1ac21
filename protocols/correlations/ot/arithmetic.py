"""The other correlations by transfers: squares, products of words of bits, shared bits, masks and wraps of truncations.

Each party draws its shares of the uniform fields. Products of its own shares are its own to compute; those of one's
share with the other's come from `word_products` and `bit_products`, the client choosing. What is seen is masked there.
"""

import math

import numpy as np

from protocols.bitplanes import bit_planes, plane_words, unpack_plane
from protocols.correlations.ot.bit_products import ProductPlan, choose_products, offer_products
from protocols.correlations.ot.ends import End
from protocols.correlations.ot.word_products import choose_numbers, choose_words, offer_numbers, offer_words
from protocols.correlations.types import BinaryTriple, SharedBit, SquarePair, TruncationMask, WrapCount
from protocols.randomness import random_words
from protocols.ranks import CLIENT
from protocols.ring import RingArray

__all__ = ["binary_triple", "numbers_times_numbers", "shared_bit", "square_pair", "truncation_mask", "wrap_count"]

_CHUNK = 1 << 11
"""Products of numbers at a time: 64 transfers each."""

_BITS = 64
_AND = ProductPlan(2, (0b11,))

Shares = list[RingArray]


def numbers_times_numbers(end: End, label: str, mine: RingArray, chooses: bool) -> RingArray:
    """Return shares of the products of one party's numbers with the other's, uint64 (n,).

    Args:
        mine: this party's, (n,).
        chooses: whether this party chooses; the other one offers.
    """
    shares = np.empty_like(mine)
    for start in range(0, mine.size, _CHUNK):
        part = slice(start, min(start + _CHUNK, mine.size))
        if chooses:
            _, shares[part] = choose_numbers(end, label, part.stop - start, mine[part])
        else:
            shares[part] = offer_numbers(end, label, mine[part], chosen=True)
    return shares


def square_pair(end: End, label: str, request: SquarePair) -> Shares:
    """r^2 = r_0^2 + r_1^2 + 2 r_0 r_1."""
    r = random_words(math.prod(request.shape))
    cross = numbers_times_numbers(end, label, r, end.rank == CLIENT)
    return [r.reshape(request.shape), (r * r + np.uint64(2) * cross).reshape(request.shape)]


def shared_bit(end: End, label: str, request: SharedBit) -> Shares:
    """A random bit, shared both ways."""
    bit = random_words(math.prod(request.shape)) & np.uint64(1)
    return [bit.reshape(request.shape), _additive(end, label, bit).reshape(request.shape)]


def binary_triple(end: End, label: str, request: BinaryTriple) -> Shares:
    """a & b, on words as they broadcast."""
    a, b = (random_words(math.prod(shape)).reshape(shape) for shape in (request.left, request.right))
    planes = np.stack([part.reshape(-1) for part in np.broadcast_arrays(a, b)])
    return [a, b, _and(end, label, planes).reshape(request.derived[0].shape)]


def truncation_mask(end: End, label: str, request: TruncationMask) -> Shares:
    """r = a + b - 2 sum_i 2^i a_i b_i of a client's a and a server's b, and the same sums over bits shifted right."""
    count, one = math.prod(request.shape), np.uint64(1)
    dropped, low = np.uint64(request.bits), np.uint64(2**63 - 1)
    bits = np.arange(_BITS, dtype=np.uint64)
    weights = np.zeros((_BITS, 2), dtype=np.uint64)  # of r; of what stays below the top bit, and of the top bit
    weights[:, 0] = one << bits
    weights[request.bits : 63, 1] = one << bits[: 63 - request.bits]
    weights[63, 1] = 1
    if end.rank == CLIENT:
        drawn, shares = choose_words(end, label, count * _BITS, 2)
        own = drawn.reshape(count, _BITS).astype(np.uint64)
    else:
        own = (random_words(count)[:, None] >> bits) & one
        words = np.negative(np.uint64(2) * own[:, :, None] * weights)
        shares = offer_words(end, label, words.reshape(-1, 2))
    number = (own << bits).sum(axis=1, dtype=np.uint64)
    shares = shares.reshape(count, _BITS, 2)
    r = number + shares[:, :, 0].sum(axis=1, dtype=np.uint64)
    shifted = ((number & low) >> dropped) + shares[:, :63, 1].sum(axis=1, dtype=np.uint64)
    top = (number >> np.uint64(63)) + shares[:, 63, 1]
    return [field.reshape(request.shape) for field in (r, shifted, top)]


def wrap_count(end: End, label: str, request: WrapCount) -> Shares:
    """How often the signed sum of the shares of r wraps: carry out - sign of r_0 - sign of r_1 + sign of r.

    The carries into and out of the top bit come from an adder on bit planes, one product a bit:
    c' = c ^ (a ^ c)(b ^ c).
    """
    count = math.prod(request.shape)
    r = random_words(count)
    planes = bit_planes(r, _BITS)
    carry = np.zeros(plane_words(count), dtype=np.uint64)
    for plane in planes:
        before = carry
        first, second = plane ^ carry, carry
        pair = np.stack([first, second] if end.rank == CLIENT else [second, first])
        carry = carry ^ _and(end, label, pair)
    sign = unpack_plane(planes[-1] ^ before, count)
    value = _additive(end, label, np.concatenate([unpack_plane(carry, count), sign]))
    own = value[:count] + value[count:] - (r >> np.uint64(63))
    return [r.reshape(request.shape), own.reshape(request.shape)]


def _and(end: End, label: str, planes: RingArray) -> RingArray:
    """Return shares of the product of two shared words of bits, (n,), from this party's shares (2, n)."""
    if not planes.size:
        return np.empty(0, dtype=np.uint64)
    if end.rank == CLIENT:
        return choose_products(end, label, _AND, planes.shape[1], planes)[1][0]
    return offer_products(end, label, _AND, planes, chosen=True)[0]


def _additive(end: End, label: str, bits: RingArray) -> RingArray:
    """Return additive shares of bits (n,) that are shared by exclusive or: b_0 + b_1 - 2 b_0 b_1."""
    if end.rank == CLIENT:
        _, shares = choose_words(end, label, bits.size, 1, bits.astype(np.uint8))
    else:
        shares = offer_words(end, label, np.negative(np.uint64(2) * bits)[:, None], chosen=True)
    return bits + shares[:, 0]
