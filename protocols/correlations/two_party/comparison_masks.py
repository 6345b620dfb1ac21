"""Make masks of comparisons by transfers: r, its low bits, their products by groups, and a bit that selects.

**r and its bits.** The client knows a, the server knows b, and both are uniform. The low bits of r are a ^ b, so their
products are products of shared bits (`bit_products`). The number itself is

    r = a + b - 2 sum_i 2^i a_i b_i + 2^(k-1) (...).

The sum over i takes one transfer for each bit: choice a_i, word b_i (`word_products`). Only its low k bits must be
right. Everything above the sign is uniform anyway, since each party adds a random multiple of 2^(k-1). The lowest bit
of this multiple is the party's share of the sign bit. So the word of bit i needs k - 1 - i bits. The same transfer
serves this word and the products with choice a_i, with different bits of its pads. The server's bits above the second
of each group are choices of transfers too.

**The bit that selects.** The client knows s_0, the server knows s_1. Both are choices of transfers, one in each
direction:

    s = s_0 + s_1 - 2 s_0 s_1,     r s = r_0 s_0 + r_1 s_1 + r_1 (1 - 2 s_1) s_0 + r_0 (1 - 2 s_0) s_1.

**Masks of a level of the tree** are random shared bits, and the products that a `BorrowJoin` has. Both parties know
their own shares of the masks, so all products are products of shared bits. The lowest node has no z, and so fewer
products.

What each sees is masked by pads that it does not have, as in the modules named above. r, a, b and s stay shared.
"""

import numpy as np

from protocols.arithmetic.bitplanes import all_products, bit_planes
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import CLIENT, SERVER
from protocols.correlations.comparison_masks import BorrowJoin, ComparisonMask, Cut, by_group
from protocols.correlations.two_party.bit_products import ProductPlan, random_products, shared_products
from protocols.correlations.two_party.ends import Drawn, End
from protocols.correlations.two_party.turns import Steps, Turn, together
from protocols.correlations.two_party.word_products import WordProducts, put_choices

__all__ = ["comparison_masks", "join_masks", "pad_words"]

_ONE, _TWO = np.uint64(1), np.uint64(2)
_NARROW = 32
"""How many bits of a number fit into a word of a pad, beside the bits that mask bits."""


def pad_words(kind: ComparisonMask) -> int:
    """Return how many words a pad has that masks both a number and bits."""
    return 1 if kind.bits <= _NARROW else 2


def comparison_masks(end: End, label: str, kind: ComparisonMask, words: int) -> Steps[list[RingArray]]:
    """Make a party's shares of the fields of `kind`, for 64 `words` elements.

    Args:
        kind: says how many bits, and whether to select and to have a sign. Its count is ignored.
    """
    count, low = 64 * words, kind.bits - kind.signed
    numbers, sums, leaves = random_words(count), WordProducts(count), _Leaves(end.rank, kind.cut, words)
    yield Turn.SERVER_CHOOSES
    for i in filter(leaves.is_servers_choice, range(low)):
        drawn = end.draw(SERVER, count)
        leaves.take(SERVER, i, drawn)
        put_choices(numbers, [(i, drawn)])
    by_server = end.draw(SERVER, count) if kind.select else None
    yield Turn.CLIENT_CHOOSES
    for i in range(low):
        drawn = end.draw(CLIENT, count, pad_words(kind))
        leaves.take(CLIENT, i, drawn)
        put_choices(numbers, [(i, drawn)])
        if i < kind.bits - 1:
            sums.add(drawn, kind.bits - 1 - i, i + 1, None if end.rank == CLIENT else (numbers >> np.uint64(i)) & _ONE)
    by_client = end.draw(CLIENT, count, words=2) if kind.select else None
    planes = bit_planes(numbers, kind.bits)
    makers: list[Steps[list[RingArray]]] = [
        leaves.products(end, label, planes[:low]),
        _values(end, label, numbers, sums, by_client, by_server),
    ]
    products, (r, plane, *selected) = yield from together(makers)
    return [r, plane, *products, *([planes[-1]] if kind.signed else []), *selected]


class _Leaves:
    """The bits of pads that mask the products of the lowest and the further groups, and the place of each bit of r."""

    def __init__(self, rank: int, cut: Cut, words: int) -> None:
        self._cut = cut
        self._plans = _plan(cut.lowest), _plan(cut.group)
        shapes = [(1, words), (cut.further, words)]
        self._pads = [
            [
                np.empty((1 if rank == chooser else 2, sum(plan.counts(chooser)), *shape), dtype=np.uint64)
                for plan, shape in zip(self._plans, shapes, strict=True)
            ]
            for chooser in (CLIENT, SERVER)
        ]

    def is_servers_choice(self, i: int) -> bool:
        """Return whether bit i of r is a choice of transfers for the server too."""
        part, _, place = self._place(i)
        return self._plans[part].counts(SERVER)[place] > 0

    def take(self, chooser: int, i: int, drawn: Drawn) -> None:
        """Keep the bits of the pads that the products with bit i need."""
        part, group, place = self._place(i)
        counts = self._plans[part].counts(chooser)
        start = sum(counts[:place])
        self._pads[chooser][part][:, start : start + counts[place], group] = drawn.planes(counts[place])

    def products(self, end: End, label: str, bits: RingArray) -> Steps[list[RingArray]]:
        """Make shares of the products of all sets in the lowest and in the further groups, as in `ComparisonMask`.

        Args:
            bits: this party's, uint64 (low, words).
        """
        lowest, further = bits[None, : self._cut.lowest], bits[self._cut.lowest :]
        singles = lowest.swapaxes(0, 1), by_group(further, self._cut.group)
        makers = [
            shared_products(
                end, f"{label}/leaves {part}", self._plans[part], singles[part], *(p[part] for p in self._pads)
            )
            for part in (0, 1)[: 2 if self._cut.further else 1]
        ]
        several = yield from together(makers)
        made = [all_products(*pair) for pair in zip(singles, several, strict=False)]
        empty = np.empty((2**self._cut.group - 1, 0, bits.shape[1]), dtype=np.uint64)
        return [made[0][:, 0], made[1] if self._cut.further else empty]

    def _place(self, i: int) -> tuple[int, int, int]:
        """Return whether bit i is in a further group (0 or 1), the number of that group, and the place in it."""
        if i < self._cut.lowest:
            return 0, 0, i
        return 1, *divmod(i - self._cut.lowest, self._cut.group)


def _plan(size: int) -> ProductPlan:
    """Return the plan of all products of a group's bits."""
    return ProductPlan(size, tuple(s for s in range(1, 1 << size) if s.bit_count() > 1))


def _values(
    end: End, label: str, numbers: RingArray, sums: WordProducts, by_client: Drawn | None, by_server: Drawn | None
) -> Steps[list[RingArray]]:
    """Make r and a plane of random bits s; with transfers for s, also the value of s, and r s."""
    yield Turn.SERVER
    r = numbers - sums.exchange(end, f"{label}/sums")
    if by_client is None or by_server is None:
        return [r, random_words(r.size // 64)]
    is_client = end.rank == CLIENT
    own = by_client if is_client else by_server
    bit = own.choices.astype(np.uint64)
    value, from_server, from_client = (WordProducts(r.size) for _ in range(3))
    turned = r * (_ONE - _TWO * bit)
    value.add(by_client, 63, 1, None if is_client else bit)
    from_server.add(by_client, 64, 0, None if is_client else turned, word=1)
    from_client.add(by_server, 64, 0, turned if is_client else None)
    values = bit - value.exchange(end, f"{label}/bit")
    product = r * bit + from_server.exchange(end, f"{label}/from server")
    yield Turn.CLIENT
    product += from_client.exchange(end, f"{label}/from client")
    return [r, own.choice_plane, values, product]


def join_masks(end: End, label: str, kind: BorrowJoin, words: int) -> Steps[list[RingArray]]:
    """Make a party's shares of the fields of `kind`, for `words` words instead of its own number."""
    request = BorrowJoin(kind.children, kind.nodes, words)
    tops, sets = request.children - 1, _sets(request.children - 1)
    makers: list[Steps[tuple[RingArray, RingArray]]] = []
    nodes = []
    for is_lowest, count in ((True, 1), (False, request.nodes - 1)):
        if count:
            groups = sets[:-1] if is_lowest else sets
            plan = ProductPlan(2 * tops + (not is_lowest), tuple(s for group in groups for s in group))
            makers.append(random_products(end, f"{label}/{len(makers)}", plan, count * words))
            nodes.append((groups, slice(0, 1) if is_lowest else slice(1, None), count))
    made = yield from together(makers)
    (masks,) = (np.empty(field.shape, dtype=np.uint64) for field in request.uniform)
    derived = [np.empty(field.shape, dtype=np.uint64) for field in request.derived]
    t, u, z = request.split(masks)
    for (bits, products), (groups, node, count) in zip(made, nodes, strict=True):
        bits = bits.reshape(-1, count, words)
        t[:, node], u[:, node] = bits[:tops], bits[tops : 2 * tops]
        if len(bits) > 2 * tops:
            z[:] = bits[2 * tops]
        start = 0
        for number, group in enumerate(groups):
            part = products[start : start + len(group)].reshape(len(group), count, words)
            derived[number][:, node if number <= tops else slice(None)] = part
            start += len(group)
    return [masks, *derived]


def _sets(tops: int) -> list[list[int]]:
    """Return the sets of masks (t, then u, then z) whose products each derived field has, in its order."""
    of_tops = range(1, 1 << tops)
    several = [s for s in of_tops if s.bit_count() > 1]
    with_carries = [[1 << tops + i | s << i for s in range(1, 1 << tops - i)] for i in range(tops)]
    return [several, *with_carries, [1 << 2 * tops | s for s in of_tops]]
