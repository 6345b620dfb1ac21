"""Make other correlations by transfers: squares, products of words of bits, shared bits, truncation masks and wraps.

Each party draws its shares of the uniform fields, and computes products of its own shares alone. Products of a party's
share with the other's share come from `word_products` and `bit_products`; the client chooses. Those modules say how
they mask what each party sees. All makers except `binary_triple` work on some words of 64 elements: arrays of one
dimension.
"""

import math

import numpy as np

from protocols.arithmetic.bitplanes import bit_planes, unpack_plane
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import CLIENT
from protocols.correlations.two_party.bit_products import ProductPlan, shared_products
from protocols.correlations.two_party.ends import PIECE, Drawn, End
from protocols.correlations.two_party.turns import Steps, Turn, pieces
from protocols.correlations.two_party.word_products import WordProducts, number_products, put_choices, tell_choices
from protocols.correlations.types import BinaryTriple, SharedBit, SquarePair, TruncationMask, WrapCount

__all__ = ["binary_triple", "shared_bit", "square_pair", "truncation_mask", "wrap_count"]

_BITS = 64
_AND = ProductPlan(2, (0b11,))

Shares = list[RingArray]


def square_pair(end: End, label: str, kind: SquarePair, words: int) -> Steps[Shares]:
    """Make r^2 = r_0^2 + r_1^2 + 2 r_0 r_1. The bits of the client's r_0 are choices of transfers."""
    r, cross = yield from number_products(end, label, random_words(64 * words), told=False)
    return [r, r * r + np.uint64(2) * cross]


def shared_bit(end: End, label: str, kind: SharedBit, words: int) -> Steps[Shares]:
    """Make a random bit, shared by exclusive or, and by addition as s_0 + s_1 - 2 s_0 s_1."""
    bits = random_words(64 * words) & np.uint64(1)
    yield Turn.CLIENT_CHOOSES
    drawn = end.draw(CLIENT, bits.size)
    put_choices(bits, [(0, drawn)])
    product = WordProducts(bits.size)
    product.add(drawn, _BITS - 1, 1, None if end.rank == CLIENT else bits)
    yield Turn.SERVER
    return [bits, bits - product.exchange(end, label)]


def truncation_mask(end: End, label: str, kind: TruncationMask, words: int) -> Steps[Shares]:
    """Make r = a + b - 2 sum_i 2^i a_i b_i from the client's a and the server's b, and such sums over shifted bits."""
    numbers = random_words(64 * words)
    r, shifted, top = (WordProducts(numbers.size) for _ in range(3))
    yield Turn.CLIENT_CHOOSES
    for i in range(_BITS):
        drawn = end.draw(CLIENT, numbers.size, words=2)
        put_choices(numbers, [(i, drawn)])
        bit = None if end.rank == CLIENT else (numbers >> np.uint64(i)) & np.uint64(1)
        up = i - kind.bits + 1
        if i == _BITS - 1:
            top.add(drawn, _BITS - 1, 1, bit)
            continue
        r.add(drawn, _BITS - 1 - i, i + 1, bit)
        if up > 0:
            shifted.add(drawn, _BITS - up, up, bit, word=1)
    low = (numbers & np.uint64(2**63 - 1)) >> np.uint64(kind.bits)
    yield Turn.SERVER
    own = zip((numbers, low, numbers >> np.uint64(63)), (r, shifted, top), ("r", "shifted", "top"), strict=True)
    return [number - sums.exchange(end, f"{label}/{name}") for number, sums, name in own]


def wrap_count(end: End, label: str, kind: WrapCount, words: int) -> Steps[Shares]:
    """Count how often the signed sum of the shares of r wraps: carry out - sign of r_0 - sign of r_1 + sign of r.

    The carries into and out of the top bit come from an adder on bit planes. It takes one product for each bit, one
    after the other: c' = c ^ (a ^ c)(b ^ c).
    """
    r = random_words(64 * words)
    planes = bit_planes(r, _BITS)
    carry = np.zeros(words, dtype=np.uint64)
    for i, plane in enumerate(planes):
        before = carry
        pair = [plane ^ carry, carry] if end.rank == CLIENT else [carry, plane ^ carry]
        carry = carry ^ (yield from _and(end, f"{label}/carry {i}", np.stack(pair)))
    out, sign = yield from _additive(end, f"{label}/numbers", np.stack([carry, planes[-1] ^ before]))
    return [r, out + sign - (r >> np.uint64(63))]


def binary_triple(end: End, label: str, request: BinaryTriple) -> Steps[Shares]:
    """Make a & b on words; the shapes of a and b broadcast."""
    a, b = (random_words(math.prod(shape)).reshape(shape) for shape in (request.left, request.right))
    planes = np.stack([part.reshape(-1) for part in np.broadcast_arrays(a, b)])
    products = np.empty(planes.shape[1], dtype=np.uint64)
    for part in pieces(products.size, PIECE // (2 * _BITS)):
        products[part] = yield from _and(end, f"{label}/{part.start}", planes[:, part])
    return [a, b, products.reshape(request.derived[0].shape)]


def _and(end: End, label: str, planes: RingArray) -> Steps[RingArray]:
    """Make shares of the product of two shared words of bits, (n,), from this party's shares (2, n)."""
    words, is_client = planes.shape[1], end.rank == CLIENT
    drawn = yield from _chosen(end, f"{label}/choices", planes)
    by_client = np.concatenate([one.planes(1) for one in drawn], axis=1)
    by_server = np.empty((2 if is_client else 1, 0, words), dtype=np.uint64)
    return (yield from shared_products(end, label, _AND, planes, by_client, by_server))[0]


def _additive(end: End, label: str, planes: RingArray) -> Steps[list[RingArray]]:
    """Make additive shares of bits that are shared by exclusive or, in planes: s_0 + s_1 - 2 s_0 s_1."""
    drawn = yield from _chosen(end, f"{label}/choices", planes)
    bits = [unpack_plane(plane, 64 * plane.size) for plane in planes]
    products = [WordProducts(one.size) for one in bits]
    for product, one, own in zip(products, drawn, bits, strict=True):
        product.add(one, _BITS - 1, 1, None if end.rank == CLIENT else own)
    yield Turn.SERVER
    return [
        own - product.exchange(end, f"{label}/{i}") for i, (own, product) in enumerate(zip(bits, products, strict=True))
    ]


def _chosen(end: End, label: str, planes: RingArray) -> Steps[list[Drawn]]:
    """Draw transfers whose choices are the client's bits (n, words); the server's `planes` do not matter."""
    yield Turn.CLIENT_CHOOSES
    drawn = [end.draw(CLIENT, 64 * planes.shape[1]) for _ in planes]
    yield Turn.CLIENT
    return tell_choices(end, label, drawn, planes if end.rank == CLIENT else None)
