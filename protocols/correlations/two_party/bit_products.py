"""Make shares of products of shared bits, when each party knows its own shares of the bits in the clear.

The bits are x_i = a_i ^ b_i. The client knows a_i, the server knows b_i, and all are uniform. To make the product over
a set S, start from the product over R, which is S without its highest bit x_i. With shares p ^ q of the product over R,

    x_i (p ^ q) = a_i p ^ b_i q ^ a_i q ^ b_i p.

Each party computes one of these terms alone. Each of the other two terms takes a correlated transfer of one bit: the
client's choice a_i for the server's q, and the server's choice b_i for the client's p. If R is a single bit x_j, then
p = a_j. Then the last term takes the client's choice a_j for the server's b_i instead.

Take pads P_0, P_1 of a random transfer with choice c. The offerer sends P_0 ^ P_1 ^ v and holds P_0; the chooser holds
P_0 ^ c v. One transfer serves all terms of a choice. Each term uses a bit of the pads that is used for nothing else. So
a product takes two bits of messages, and an instance takes one transfer for each choice.

Three messages suffice for sets of four:

1. The server's shares over two bits follow from the pads. So it first sends the terms of q over one or two bits.
2. The client's shares over two and three bits follow from this message, and from the pads of the terms that the client
   then sends.
3. The server's shares over three bits follow from that, and the server sends their terms.

What each sees: bits, each masked by a bit of a pad that it does not have. The choices are the transfers' own, so no
message says anything about them. Where a party has its bits already, see `word_products`.

All work is on bit planes, 64 instances to a word. The shares of a product become inputs of the next one, which is an
idea of GMW (Goldreich, Micali, Wigderson, STOC 1987).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import CLIENT, SERVER
from protocols.correlations.two_party.ends import PLANE_BITS, End
from protocols.correlations.two_party.turns import Steps, Turn
from protocols.errors import ParameterError

__all__ = ["ProductPlan", "Term", "random_products", "shared_products"]

_LARGEST_SET = 4
_LATE_SET = 3
"""Client terms whose value is over so many bits come late: the server's share follows from the client's message."""


@dataclass(frozen=True)
class Term:
    """A product of one party's choice and the other's share. It takes a transfer.

    Args:
        choice: i, the number of the bit whose share is the choice.
        value: the set whose product's share is offered.
        product: the set of the product to which this term belongs.
    """

    choice: int
    value: int
    product: int


@dataclass(frozen=True)
class ProductPlan:
    """The products to make, and the number of bits that they are made from.

    Args:
        masks: how many bits there are.
        products: sets of two to four bits. Each is an integer whose bit i says whether x_i is in the set. Each set
            without its highest bit must be a single bit, or one of `products` too.
    """

    masks: int
    products: tuple[int, ...]

    def __post_init__(self) -> None:
        known = {1 << i for i in range(self.masks)} | set(self.products)
        for product in self.products:
            fits = 0 < product < 1 << self.masks and 1 < product.bit_count() <= _LARGEST_SET
            if not fits or product ^ _highest(product) not in known:
                raise ParameterError(f"expected products of 2 to 4 of {self.masks} bits, and their smaller products")
        if max((*self.counts(CLIENT), *self.counts(SERVER)), default=0) > PLANE_BITS:
            raise ParameterError(f"expected at most {PLANE_BITS} terms of a choice, got {self.products}")

    @cached_property
    def client_terms(self) -> tuple[Term, ...]:
        """The terms of the client's choices, sorted by choice."""
        terms = []
        for product in self.products:
            top, rest = _highest(product), product ^ _highest(product)
            terms.append(Term(_place(top), rest, product))
            if rest.bit_count() == 1:
                terms.append(Term(_place(rest), top, product))
        return tuple(sorted(terms, key=lambda term: term.choice))

    @cached_property
    def server_terms(self) -> tuple[Term, ...]:
        """The terms of the server's choices, sorted by choice."""
        terms = [Term(_place(_highest(s)), s ^ _highest(s), s) for s in self.products if s.bit_count() > 2]
        return tuple(sorted(terms, key=lambda term: term.choice))

    def counts(self, chooser: int) -> tuple[int, ...]:
        """Return how many terms each bit has as a choice of rank `chooser`. A bit without terms takes no transfer."""
        terms = self.client_terms if chooser == CLIENT else self.server_terms
        return tuple(sum(term.choice == i for term in terms) for i in range(self.masks))


def random_products(end: End, label: str, plan: ProductPlan, words: int) -> Steps[tuple[RingArray, RingArray]]:
    """Make shares of 64 `words` instances of random bits and of their products.

    Returns:
        This party's shares, uint64 (masks, words) and (products, words).
    """
    bits = random_words(plan.masks * words).reshape(plan.masks, words)
    yield Turn.SERVER_CHOOSES
    by_server = _draw_planes(end, SERVER, plan.counts(SERVER), bits)
    yield Turn.CLIENT_CHOOSES
    by_client = _draw_planes(end, CLIENT, plan.counts(CLIENT), bits)
    return bits, (yield from shared_products(end, label, plan, bits, by_client, by_server))


def _draw_planes(end: End, chooser: int, counts: Sequence[int], bits: RingArray) -> RingArray:
    """Draw the transfers of all choices that have terms; return the terms' pads, (sides, terms, words).

    Args:
        bits: this party's, (masks, words). Where it chooses, its choices replace them.
    """
    words = bits.shape[1]
    planes = [np.empty((1 if end.rank == chooser else 2, 0, words), dtype=np.uint64)]
    for i, count in enumerate(counts):
        if count:
            drawn = end.draw(chooser, 64 * words)
            planes.append(drawn.planes(count))
            if drawn.is_chooser:
                bits[i] = drawn.choice_plane
    return np.concatenate(planes, axis=1)


def shared_products(
    end: End, label: str, plan: ProductPlan, bits: RingArray, by_client: RingArray, by_server: RingArray
) -> Steps[RingArray]:
    """Make shares of products, uint64 (products, ...), from transfers that are drawn already.

    Args:
        bits: this party's shares, uint64 (masks, ...).
        by_client: bits of the pads that mask the client's terms, in their order, uint64 (sides, terms, ...).
        by_server: the same for the server's terms.
    """
    side = _Side(end, plan, bits)
    is_client = end.rank == CLIENT
    early = [t for t, term in enumerate(plan.client_terms) if term.value.bit_count() < _LATE_SET]
    late = [t for t, term in enumerate(plan.client_terms) if term.value.bit_count() == _LATE_SET]
    side.take_pads(*((plan.server_terms, by_server) if is_client else (plan.client_terms, by_client)))
    if not is_client:
        side.complete(2)
    yield Turn.SERVER
    side.move(f"{label}/1", plan.client_terms, early, by_client)
    if is_client:
        side.complete(2)
        side.complete(3)
    if plan.server_terms:
        yield Turn.CLIENT
        side.move(f"{label}/2", plan.server_terms, range(len(plan.server_terms)), by_server)
    if not is_client:
        side.complete(3)
    if late:
        yield Turn.SERVER
        side.move(f"{label}/3", plan.client_terms, late, by_client)
    side.complete(4)
    return np.stack([side.shares[product] for product in plan.products])


class _Side:
    """A party's shares of products, by set, and the parts of those that are not complete yet."""

    def __init__(self, end: End, plan: ProductPlan, bits: RingArray) -> None:
        self._end, self._plan = end, plan
        self.shares = {1 << i: plane for i, plane in enumerate(bits)}
        self._crossed = {product: np.zeros(bits.shape[1:], dtype=np.uint64) for product in plan.products}

    def take_pads(self, terms: Sequence[Term], pads: RingArray) -> None:
        """Add the offerer's shares of terms, which are the first pads."""
        for term, pad in zip(terms, pads[0], strict=True):
            self._crossed[term.product] ^= pad

    def move(self, label: str, terms: Sequence[Term], which: Sequence[int], pads: RingArray) -> None:
        """Send the message of some terms as the offerer, or receive it and add the chooser's shares of the terms."""
        if len(pads) == 2:
            message = [pads[0, t] ^ pads[1, t] ^ self.shares[terms[t].value] for t in which]
            self._end.channel.send(label, np.stack(message))
            return
        sent = self._end.channel.receive(label, np.uint64, (len(which), *pads.shape[2:]))
        for t, bits in zip(which, sent, strict=True):
            self._crossed[terms[t].product] ^= pads[0, t] ^ (self.shares[1 << terms[t].choice] & bits)

    def complete(self, size: int) -> None:
        """Complete the products of `size` bits: add the term that this party knows alone."""
        for product in self._plan.products:
            if product.bit_count() == size:
                top = _highest(product)
                self.shares[product] = (self.shares[top] & self.shares[product ^ top]) ^ self._crossed[product]


def _highest(members: int) -> int:
    """Return the set of the highest member alone."""
    return 1 << members.bit_length() - 1


def _place(single: int) -> int:
    return single.bit_length() - 1
