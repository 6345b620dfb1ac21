"""Masks of comparisons by transfers: r, its low bits, their products by groups, and a bit that selects.

The client knows a and the server b, uniform. The low bits of r are a ^ b, so their products are products of shared
bits, and r = a + b - 2 sum_i 2^i a_i b_i + 2^(k-1) (...) is a sum whose last part takes one transfer a bit: choice
a_i, word 2^i b_i. Only the low k bits of that sum must be right; what is above the sign is uniform anyway, since each
party adds a random multiple of 2^(k-1), whose lowest bit is its share of the sign bit. So a word of bit i needs
k - 1 - i bits.

Groups of three bits are one transfer of eight: with pads P_(i, c_i) of three transfers, message c = 1, ..., 7 has the
four products of (c ^ b) and the offerer's share, masked by four bits of each chosen pad that belong to c alone (Naor
and Pinkas, STOC 1999); the offerer's share is such that message 0 would be zero. The same pads mask the words: low 32
bits for these, high 32 bits for the messages. Other groups take transfers for each product (`bit_products`).

The bit: the client knows b_0, the server b_1, both choices of transfers, one in either direction;

    b = b_0 + b_1 - 2 b_0 b_1,     r b = r_0 b_0 + r_1 b_1 + r_1 (1 - 2 b_1) b_0 + r_0 (1 - 2 b_0) b_1.

What each sees is masked by pads that it does not have, as in these modules; r, a, b stay as shared.
"""

from dataclasses import dataclass

import numpy as np

from protocols.bitplanes import bit_planes, unpack_plane
from protocols.correlations.comparison import ComparisonMask
from protocols.correlations.ot.bit_products import ProductPlan, choose_products, offer_products
from protocols.correlations.ot.ends import End
from protocols.correlations.ot.kernels import choose_triples, offer_triples
from protocols.correlations.ot.word_products import choose_words, offer_words
from protocols.randomness import random_words
from protocols.ranks import CLIENT
from protocols.ring import RingArray

__all__ = ["CHUNK_WORDS", "comparison_masks"]

CHUNK_WORDS = 128
"""64 elements each: the pads of so many stay in cache."""

_TRIPLE_PRODUCTS = np.array(
    [sum((m & s == s) << j for j, s in enumerate((0b011, 0b101, 0b110, 0b111))) for m in range(8)], dtype=np.uint64
)
"""The products of two and three bits, by the bits."""

_LARGEST_TRIPLES = 32


@dataclass
class _Leaves:
    """A party's shares of r and of its products: what `comparison_masks` assembles.

    Args:
        r: uint64 (n,).
        bits: its shares of r's low bits, planes (k or k - 1, words).
        lowest, groups: planes as in `ComparisonMask`.
    """

    r: RingArray
    bits: RingArray
    lowest: RingArray
    groups: RingArray


def comparison_masks(end: End, label: str, kind: ComparisonMask, words: int) -> list[RingArray]:
    """Return a party's shares of the fields of `kind`, for 64 `words` elements, made some at a time.

    Args:
        kind: for its bits, and whether it selects and is signed; its count is ignored.
    """
    parts = [_chunk(end, label, kind, min(CHUNK_WORDS, words - start)) for start in range(0, words, CHUNK_WORDS)]
    return [np.concatenate(field, axis=-1) for field in zip(*parts, strict=True)]


def _chunk(end: End, label: str, kind: ComparisonMask, words: int) -> list[RingArray]:
    cut = kind.cut
    triples = cut.lowest == cut.group == 3 and kind.signed and kind.bits <= _LARGEST_TRIPLES
    leaves = (_triples if triples else _any_groups)(end, label, kind, words)
    fields = [leaves.lowest, leaves.groups, *([leaves.bits[-1]] if kind.signed else [])]
    if not kind.select:
        return [leaves.r, random_words(words), *fields]
    b, value, product = _selection(end, label, leaves.r)
    return [leaves.r, b, *fields, value, product]


def _triples(end: End, label: str, kind: ComparisonMask, words: int) -> _Leaves:
    """Make leaves in groups of three bits."""
    count, bits, low = 64 * words, kind.bits, kind.bits - 1
    sent_bits = 28 * (low // 3) + bits * low // 2
    shape = count, -(-sent_bits // 64)
    numbers = random_words(count)
    products, sums = np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.uint64)
    if end.rank == CLIENT:
        choices, pads = end.chooser.draw(count * low, words=1)
        sent = end.channel.receive(f"{label}/leaves", np.uint64, shape)
        own = np.empty(count, dtype=np.uint64)
        arrays = sent, own, products, sums
        choose_triples(pads.reshape(count, low), choices.reshape(count, low), bits, _TRIPLE_PRODUCTS, *arrays)
        numbers = own | (numbers >> np.uint64(low) << np.uint64(low))
    else:
        pads = end.offerer.draw(count * low, words=1).reshape(count, low, 2)
        sent = np.empty(shape, dtype=np.uint64)
        offer_triples(pads, numbers, bits, _TRIPLE_PRODUCTS, sent, products, sums)
        end.channel.send(f"{label}/leaves", sent)
    own_planes = bit_planes(numbers, bits)
    several = bit_planes(products, 4 * (low // 3)).reshape(-1, 4, words).swapaxes(0, 1)
    singles = own_planes[:low].reshape(-1, 3, words).swapaxes(0, 1)
    planes = _by_sets(singles, several)
    return _Leaves(numbers - sums, own_planes, planes[:, 0], planes[:, 1:])


def _any_groups(end: End, label: str, kind: ComparisonMask, words: int) -> _Leaves:
    """Make leaves in groups of any size, by a transfer for every set of bits."""
    cut = kind.cut
    low = kind.bits - kind.signed
    numbers = random_words(64 * words)
    own = bit_planes(numbers, kind.bits)
    lowest = _group_products(end, f"{label}/lowest", own[None, : cut.lowest])
    further = own[cut.lowest : low].reshape(cut.further, cut.group, words)
    groups = _group_products(end, f"{label}/groups", further) if cut.further else np.empty((15, 0, words), np.uint64)
    sums = np.zeros(64 * words, dtype=np.uint64)
    for i in range(kind.bits - 1):
        bit = unpack_plane(own[i], sums.size)
        if end.rank == CLIENT:
            _, share = choose_words(end, f"{label}/sum", sums.size, 1, bit.astype(np.uint8))
        else:
            share = offer_words(end, f"{label}/sum", (bit << np.uint64(i + 1))[:, None], chosen=True)
        sums += share[:, 0]
    return _Leaves(numbers - sums, own, lowest[:, 0], groups)


def _group_products(end: End, label: str, bits: RingArray) -> RingArray:
    """Return shares of the products of all sets of each group's bits, (2^group - 1, groups, words), by their numbers.

    Args:
        bits: (groups, group, words), this party's shares.
    """
    groups, size, words = bits.shape
    flat = bits.swapaxes(0, 1).reshape(size, groups * words)
    sets = tuple(s for s in range(1, 1 << size) if s.bit_count() > 1)
    plan = ProductPlan(size, sets)
    if end.rank == CLIENT:
        _, several = choose_products(end, label, plan, groups * words, flat)
    else:
        several = offer_products(end, label, plan, flat, chosen=True)
    return _by_sets(flat.reshape(size, groups, words), several.reshape(-1, groups, words))


def _by_sets(singles: RingArray, several: RingArray) -> RingArray:
    """Return planes of single bits (t, groups, words) and of products as those of all sets, in their numbers' order."""
    planes = np.empty((2 ** len(singles) - 1, *singles.shape[1:]), dtype=np.uint64)
    of_one, of_several = iter(singles), iter(several)
    for number in range(1, len(planes) + 1):
        planes[number - 1] = next(of_one if number.bit_count() == 1 else of_several)
    return planes


def _selection(end: End, label: str, r: RingArray) -> tuple[RingArray, RingArray, RingArray]:
    """Return shares of a random bit, as a plane, of its value, and of its product with r.

    Both draw the transfers of the server's bit first, since its words of the other transfers depend on that.
    """
    count, one, two = r.size, np.uint64(1), np.uint64(2)
    if end.rank == CLIENT:
        pads = end.offerer.draw(count, words=1)[:, :, 0]
        drawn, shares = choose_words(end, f"{label}/client's bit", count, 2)
        b = drawn.astype(np.uint64)
        end.channel.send(f"{label}/server's bit", pads[:, 0] - pads[:, 1] + r * (one - two * b))
        product = shares[:, 1] - pads[:, 0]
    else:
        drawn, chosen = end.chooser.draw(count, words=1)
        b = drawn.astype(np.uint64)
        words = np.stack([np.negative(two * b), r * (one - two * b)], axis=1)
        shares = offer_words(end, f"{label}/client's bit", words)
        sent = end.channel.receive(f"{label}/server's bit", np.uint64, (count,))
        product = shares[:, 1] + chosen[:, 0] + b * sent
    plane = np.packbits(drawn, bitorder="little").view(np.uint64)
    return plane, shares[:, 0] + b, product + r * b
