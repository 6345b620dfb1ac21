"""Shares of products of shared bits, when each party knows its own shares of the bits in the clear.

Bits x_i = a_i ^ b_i; the chooser knows a_i, the offerer b_i, all uniform. A product over a set S is

    prod_S x_i = sum over the subsets U of S of (prod_U a_i) (prod_(S - U) b_i),

so each knows the term of U = S or of U = {} alone, and for every other U one correlated transfer serves all products at
once: the chooser's bit is prod_U a_i, the offerer's vector has prod_(S - U) b_i for every S above U. With pads P_0, P_1
of a random transfer of choice c (exchanged if the chooser says that its bit is not c) the offerer sends P_0 ^ P_1 ^ v,
and the two hold P_0 and P_0 ^ (bit) v.

What each sees: the offerer the chooser's bits, each masked by its own uniform choice; the chooser vectors, each masked
by a pad that it does not have. A single a_i takes no message: it is the transfer's own choice.

All is done on bit planes, 64 instances to a word.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from protocols.correlations.ot.ends import End
from protocols.correlations.ot.kernels import pad_planes
from protocols.errors import ParameterError
from protocols.ring import RingArray

__all__ = ["ProductPlan", "choose_products", "offer_products"]

_MOST_PLACES = 64


@dataclass(frozen=True)
class ProductPlan:
    """Which products of so many bits are wanted.

    Args:
        masks: how many bits there are.
        products: sets of two or more bits, each as an integer whose bit i says whether x_i is in it.
    """

    masks: int
    products: tuple[int, ...]

    def __post_init__(self) -> None:
        if not all(0 < product < 1 << self.masks and product.bit_count() > 1 for product in self.products):
            raise ParameterError(f"expected products of two or more of {self.masks} bits, got {self.products}")
        if any(len(places) > _MOST_PLACES for places in self.places):
            raise ParameterError(f"expected at most {_MOST_PLACES} products above a set, got {self.products}")

    @cached_property
    def choices(self) -> tuple[int, ...]:
        """The sets U of the transfers: first all single bits, then those of several."""
        several = {u for product in self.products for u in _proper_subsets(product) if u.bit_count() > 1}
        return (*(1 << i for i in range(self.masks)), *sorted(several))

    @cached_property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """The products, by their places, that each transfer serves."""
        return tuple(
            tuple(j for j, product in enumerate(self.products) if product & u == u and product != u)
            for u in self.choices
        )

    @property
    def sent_bits(self) -> int:
        """Bits that the offerer sends for one instance."""
        return sum(map(len, self.places))


def choose_products(
    end: End, label: str, plan: ProductPlan, words: int, bits: RingArray | None = None
) -> tuple[RingArray, RingArray]:
    """Be the chooser of 64 `words` instances.

    Args:
        bits: uint64 (masks, words), this party's a_i; drawn if left out.

    Returns:
        The bits, and the shares of the products, uint64 (products, words).
    """
    transfers = len(plan.choices)
    drawn, pads = end.chooser.draw(transfers * 64 * words, words=1)
    choices = np.packbits(drawn, bitorder="little").view(np.uint64).reshape(transfers, words)
    told = 0 if bits is not None else plan.masks
    own = choices[: plan.masks] if bits is None else bits
    wanted = np.stack([_product(own, u) for u in plan.choices])
    if told < transfers:
        end.channel.send(f"{label}/choices", wanted[told:] ^ choices[told:])
    sent = end.channel.receive(f"{label}/products", np.uint64, (plan.sent_bits, words))
    shares, row = _products(own, plan), 0
    for places, choice, pad in zip(plan.places, wanted, pads.reshape(transfers, -1), strict=True):
        planes = _planes(pad, len(places))
        for j, plane in zip(places, planes, strict=True):
            shares[j] ^= plane ^ (choice & sent[row])
            row += 1
    return own, shares


def offer_products(end: End, label: str, plan: ProductPlan, bits: RingArray, chosen: bool = False) -> RingArray:
    """Be the offerer; return the shares of the products, uint64 (products, words).

    Args:
        bits: uint64 (masks, words), this party's b_i.
        chosen: whether the chooser has bits of its own.
    """
    transfers, words = len(plan.choices), bits.shape[1]
    pads = end.offerer.draw(transfers * 64 * words, words=1).reshape(transfers, 64 * words, 2)
    told = 0 if chosen else plan.masks
    exchanged = np.zeros((transfers, words), dtype=np.uint64)
    if told < transfers:
        exchanged[told:] = end.channel.receive(f"{label}/choices", np.uint64, (transfers - told, words))
    shares, row = _products(bits, plan), 0
    sent = np.empty((plan.sent_bits, words), dtype=np.uint64)
    for u, places, swap, pad in zip(plan.choices, plan.places, exchanged, pads, strict=True):
        for j, first, second in zip(places, *(_planes(pad[:, side], len(places)) for side in (0, 1)), strict=True):
            both = first ^ second
            sent[row] = both ^ _product(bits, plan.products[j] & ~u)
            shares[j] ^= first ^ (both & swap)
            row += 1
    end.channel.send(f"{label}/products", sent)
    return shares


def _products(bits: RingArray, plan: ProductPlan) -> RingArray:
    """Return what a party's bits alone contribute."""
    return np.stack([_product(bits, product) for product in plan.products])


def _product(bits: RingArray, members: int) -> RingArray:
    """Return the product of some of the planes (masks, words)."""
    rows = [i for i in range(len(bits)) if members >> i & 1]
    return np.asarray(np.bitwise_and.reduce(bits[rows], axis=0))


def _planes(pads: RingArray, count: int) -> RingArray:
    """Return the planes of the low bits of pads (64 words,)."""
    planes = np.empty((count, pads.size // 64), dtype=np.uint64)
    pad_planes(pads, count, planes)
    return planes


def _proper_subsets(product: int) -> list[int]:
    members = [1 << i for i in range(product.bit_length()) if product >> i & 1]
    return [sum(chosen) for size in range(1, len(members)) for chosen in combinations(members, size)]
