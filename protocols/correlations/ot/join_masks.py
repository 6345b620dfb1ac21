"""Masks of a level of a comparison's tree by transfers: random shared bits, and the products that a `BorrowJoin` has.

Both parties know their own shares of the masks, so all are products of shared bits (`bit_products`). The lowest node
has no z, and so fewer products than the others.
"""

import numpy as np

from protocols.correlations.comparison import BorrowJoin
from protocols.correlations.ot.bit_products import ProductPlan, choose_products, offer_products
from protocols.correlations.ot.ends import End
from protocols.randomness import random_words
from protocols.ranks import CLIENT
from protocols.ring import RingArray

__all__ = ["join_masks"]

_CHUNK_WORDS = 512
"""64 elements each: the pads of so many take some megabytes."""


def join_masks(end: End, label: str, kind: BorrowJoin, words: int) -> list[RingArray]:
    """Return a party's shares of the fields of `kind` for so many words, whatever it says, made some at a time."""
    parts = [
        _chunk(end, label, BorrowJoin(kind.children, kind.nodes, min(_CHUNK_WORDS, words - start)))
        for start in range(0, words, _CHUNK_WORDS)
    ]
    return [np.concatenate(field, axis=-1) for field in zip(*parts, strict=True)]


def _chunk(end: End, label: str, request: BorrowJoin) -> list[RingArray]:
    tops, nodes, words = request.children - 1, request.nodes, request.words
    sets = _sets(tops)
    (masks,) = (np.empty(field.shape, dtype=np.uint64) for field in request.uniform)
    derived = [np.empty(field.shape, dtype=np.uint64) for field in request.derived]
    t, u, z = request.split(masks)
    for is_lowest in (True, False):
        count = 1 if is_lowest else nodes - 1
        if not count:
            continue
        node = slice(0, 1) if is_lowest else slice(1, None)
        groups = sets[:-1] if is_lowest else sets
        plan = ProductPlan(2 * tops + (not is_lowest), tuple(s for group in groups for s in group))
        bits, products = _shares(end, f"{label}/{'lowest' if is_lowest else 'others'}", plan, count * words)
        bits = bits.reshape(-1, count, words)
        t[:, node], u[:, node] = bits[:tops], bits[tops : 2 * tops]
        if not is_lowest:
            z[:] = bits[2 * tops]
        start = 0
        for number, group in enumerate(groups):
            part = products[start : start + len(group)].reshape(len(group), count, words)
            derived[number][:, node if number <= tops else slice(None)] = part
            start += len(group)
    return [masks, *derived]


def _shares(end: End, label: str, plan: ProductPlan, words: int) -> tuple[RingArray, RingArray]:
    """Return random bits and their products."""
    if end.rank == CLIENT:
        return choose_products(end, label, plan, words)
    bits = random_words(plan.masks * words).reshape(plan.masks, words)
    return bits, offer_products(end, label, plan, bits)


def _sets(tops: int) -> list[list[int]]:
    """Return the sets of masks (t, then u, then z) whose products each derived field has, in its order."""
    of_tops = range(1, 1 << tops)
    several = [s for s in of_tops if s.bit_count() > 1]
    with_carries = [[1 << tops + i | s << i for s in range(1, 1 << tops - i)] for i in range(tops)]
    return [several, *with_carries, [1 << 2 * tops | s for s in of_tops]]
