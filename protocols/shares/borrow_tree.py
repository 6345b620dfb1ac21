"""Compute the borrow [c < r] of a public and a shared number, on bit planes, in at most two rounds for 63 bits.

Client and server hold exclusive-or shares of r's bits and get shares of [c < r]. Every bit has a (generate, propagate)
pair (g, p) = (~c r, ~c ^ r). g says whether the bit makes a borrow, p whether it passes one on. A segment of
neighbours 0 (lowest), 1, ... m - 1 has

    g = g[m-1] ^ p[m-1] (g[m-2] ^ p[m-2] (... ^ p[1] g[0])),      p = p[m-1] ... p[1] p[0].

Every p is a public bit xor a mask bit. So p[m-1] ... p[i] is a sum over the sets of these masks. Each term is (product
of the set) times (product of the public bits of the others). So the sum is linear in shares of the *products of the
masks*.

**Leaves** are groups of four bits, or of three (`Cut`). There the masks are r's own bits, and the public bits are those
of c. The products come with the `ComparisonMask`, so leaves take no message.

**Above the leaves**, a level joins 2 to 4 children in one round. Children at the top that are too few for a node go on
to the next level as they are. The parties open t ^ p and u ^ g for fresh mask bits t, u. The level's `BorrowJoin`
carries the products of these masks (Beaver's circuit randomization for gates of several inputs). The highest child's g
enters as it is, and the lowest p of all is never needed, so neither is opened.

What each party sees: opened bits, each masked by a uniform bit of its own that is used once. So they are uniform,
whatever r and c are.

Opened bits for each element and direction: 2 (m - 1) for each node of a level, and one more for each node except the
lowest. That is 17 bits in two rounds for 31 bits, 18 for 27, 33 for 63.

Sources for products of several masked bits in one round: Ohata and Nuida, FC 2020; ABY2.0 (Patra et al., USENIX
Security 2021).
"""

from collections.abc import Iterator

import numpy as np

from protocols.arithmetic.bitplanes import all_products
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT
from protocols.correlations import BorrowJoin
from protocols.correlations.comparison_masks import by_group
from protocols.shares.party import MpcParty

__all__ = ["borrow", "borrow_requests"]

_FAN_INS = {1: (), 2: (2,), 4: (4,), 6: (2, 3), 7: (3, 3), 8: (2, 4), 9: (3, 3), 16: (4, 4)}
"""Children of a node on each level, by number of groups: the fewest rounds, and then the fewest products of masks."""


def borrow_requests(groups: int, words: int) -> list[BorrowJoin]:
    """Return the correlations that one borrow uses up, over `groups` groups of bits and on planes of `words` words."""
    requests = []
    for children in _FAN_INS[groups]:
        nodes, rest = divmod(groups, children)
        requests.append(BorrowJoin(children, nodes, words))
        groups = nodes + rest
    return requests


def borrow(party: MpcParty, not_c: RingArray, lowest: RingArray, groups: RingArray) -> RingArray:
    """Return this party's share of the plane [c < r].

    Args:
        not_c: uint64 (bits, words), planes of ~c, public.
        lowest: uint64 (2^t - 1, words), share of the products of all sets of the t lowest bits of r.
        groups: uint64 (2^q - 1, n, words), share of the same for r's n further groups of q bits; bits = t + q n.

    Returns:
        uint64 (words,).
    """
    words = not_c.shape[1]
    first = len(lowest).bit_length()
    generate = np.empty((1 + groups.shape[1], words), dtype=np.uint64)
    generate[0], _ = _leaf(not_c[:first], lowest, party.rank)
    generate[1:], propagate = _leaf(by_group(not_c[first:], len(groups).bit_length()), groups, party.rank)
    for request in borrow_requests(len(generate), words):
        generate, propagate = _join(party, request, generate, propagate)
    return generate[0]


def _leaf(not_c: RingArray, products: RingArray, rank: int) -> tuple[RingArray, RingArray]:
    """Return shares of (g, p) of groups of bits. g is the sum of ~c[i] r[i] times the p of all bits above i."""
    generate = np.zeros_like(products[0])
    propagate = generate
    for n, (r, propagated) in zip(not_c[::-1], _chain(not_c, products, rank), strict=True):
        generate ^= n & r
        propagate = propagated
    return generate, propagate


def _join(
    party: MpcParty, request: BorrowJoin, generate: RingArray, propagate: RingArray
) -> tuple[RingArray, RingArray]:
    """Join neighbours in one round: return shares of (g, p) of a level's nodes, from those of their children.

    The result has the form of the arguments. It ends with the children that belong to none of the request's nodes.

    Args:
        generate: (n, words).
        propagate: (n - 1, words), without the lowest.
    """
    m = request.children
    joined = m * request.nodes
    generate, more_generate = generate[:joined], generate[joined:]
    propagate, more_propagate = propagate[: joined - 1], propagate[joined - 1 :]
    masks, several, *with_carries, with_lowest = party.correlations.take(request)
    inner = range(m - 1)
    opened = np.concatenate(
        [*(propagate[i::m] for i in inner), *(generate[i::m] for i in inner), propagate[m - 1 :: m]]
    )
    opened ^= masks
    opened ^= party.channel.exchange("comparison/join", opened)
    p, g, p_lowest = request.split(opened)
    tops, carries, lowest = request.split(masks)
    above = [passed for _, passed in _chain(p, all_products(tops, several), party.rank)][::-1]
    result = generate[m - 1 :: m].copy()
    for i in inner:
        result ^= g[i] & above[i]
        result ^= _times(carries[i], with_carries[i], p[i:])
    passed = (p_lowest & above[0][1:]) ^ _times(lowest, with_lowest, p[:, 1:])
    return np.concatenate([result, more_generate]), np.concatenate([passed, more_propagate])


def _chain(public: RingArray, products: RingArray, rank: int) -> Iterator[tuple[RingArray, RingArray]]:
    """Yield shares of mask[i] x[i+1] x[i+2] ... and of x[i] x[i+1] ..., i from the highest down, x = public ^ mask.

    Args:
        public: (t, ...). products: (2^t - 1, ...), share of the products of all sets of masks.
    """
    product = np.array(2**64 - 1 if rank == CLIENT else 0, dtype=np.uint64)  # a share of 1
    for x in public[::-1]:
        half = len(products) // 2
        masked = products[half]
        product = (x & product) ^ masked
        yield masked, product
        products = (x & products[:half]) ^ products[half + 1 :]


def _times(single: RingArray, products: RingArray, public: RingArray) -> RingArray:
    """Return a share of y x[0] x[1] ... from those of y (...) and of y with all sets of masks (2^t - 1, ...)."""
    products = np.concatenate([single[None], products])
    for x in public[::-1]:
        half = len(products) // 2
        products = (x & products[:half]) ^ products[half:]
    return products[0]
