"""Masks of a level of a comparison's tree by transfers: random shared bits, and the products that a `BorrowJoin` has.

Both parties know their own shares of the masks, so all are products of shared bits (`bit_products`). The lowest node
has no z, and so fewer products than the others.
"""

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.comparison_masks import BorrowJoin
from protocols.correlations.two_party.bit_products import ProductPlan, random_products
from protocols.correlations.two_party.ends import End
from protocols.correlations.two_party.turns import Steps, together

__all__ = ["join_masks"]


def join_masks(end: End, label: str, kind: BorrowJoin, words: int) -> Steps[list[RingArray]]:
    """Make a party's shares of the fields of `kind` for so many words, whatever it says."""
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
