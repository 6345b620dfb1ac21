"""The correlations that a comparison uses up: the mask of its input, and the masks of a level of its tree.

Both carry products of mask bits, so that products of *masked* bits are sums of shares with public coefficients (see
`borrow_tree`). A set of mask bits m_0, m_1, ... is numbered by the integer whose bit i says whether m_i is in it; row
S - 1 of an array of products belongs to set S.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from protocols.bitplanes import bit_planes, plane_words, subset_products, unpack_plane
from protocols.correlations.request import Field, Request
from protocols.errors import ParameterError
from protocols.ring import RingArray

__all__ = ["GROUP", "BorrowJoin", "ComparisonMask", "by_group"]

GROUP = 4
"""Neighbouring bits of r whose products come with the mask: the tree's leaves are groups of so many bits."""

_MAX_NODES = 16


def by_group(planes: RingArray) -> RingArray:
    """Return a view of planes (4 n, words) as (4, n, words): bit i of group j is at [i, j]."""
    return planes.reshape(-1, GROUP, planes.shape[-1]).swapaxes(0, 1)


@dataclass(frozen=True)
class ComparisonMask(Request):
    """The mask of a comparison of `count` elements on their low `bits` bits (see `comparison`).

    Fields: r (count,), additive; b, a mask bit each, one plane; then, as bit planes, the products of all sets of the
    `lowest` lowest bits of r (2^lowest - 1, words); those of the four bits of every further group, from the lowest up
    (15, bits / 4 - 1, words); if `signed`, the top bit r[bits - 1] (words,), which is in no group; and if `select`, b
    and r b, additive (count,).
    """

    kind: ClassVar[str] = "comparison-mask"
    count: int
    bits: int = 32
    select: bool = True
    signed: bool = True

    def __post_init__(self) -> None:
        if self.bits not in (4, 8, 16, 32, 64):
            raise ParameterError(f"expected 4, 8, 16, 32 or 64 bits, got {self.bits}")

    @property
    def lowest(self) -> int:
        """The bits of the lowest group: one less than the others have if the top bit is a sign."""
        return GROUP - 1 if self.signed else GROUP

    @property
    def uniform(self) -> tuple[Field, ...]:
        return Field((self.count,)), Field((plane_words(self.count),), xor=True)

    @property
    def derived(self) -> tuple[Field, ...]:
        words = plane_words(self.count)
        shapes = [(2**self.lowest - 1, words), (2**GROUP - 1, self.bits // GROUP - 1, words)]
        planes = tuple(Field(shape, xor=True) for shape in [*shapes, *([(words,)] if self.signed else [])])
        return (*planes, Field((self.count,)), Field((self.count,))) if self.select else planes

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        r, b = self._values(first, second)
        planes = bit_planes(r, self.bits)
        groups = by_group(planes[self.lowest : -1 if self.signed else None])
        derived = [subset_products(planes[: self.lowest]), subset_products(groups)]
        if self.signed:
            derived.append(planes[-1])
        if self.select:
            bit = unpack_plane(b, self.count)
            derived += [bit, r * bit]
        return derived


@dataclass(frozen=True)
class BorrowJoin(Request):
    """The masks of one level of a comparison's tree: `nodes` nodes of `children` children each (see `borrow_tree`).

    Per node, its children numbered from the lowest: a mask bit t_i of the propagate bit of child i >= 1, u_i of the
    generate bit of child i < children - 1, and z of the propagate bit of child 0, but not for the lowest node. Fields:
    the masks, in the order of `split`; the products of all sets of two or more t_i, in the order of their numbers
    (2^(children-1) - children, nodes, words); for every i, those of u_i with all sets of t_(i+1), t_(i+2), ...
    (2^(children-1-i) - 1, nodes, words); those of z with all sets of t_i (2^(children-1) - 1, nodes - 1, words).
    """

    kind: ClassVar[str] = "borrow-join"
    children: int
    nodes: int
    words: int

    def __post_init__(self) -> None:
        if self.children not in (2, 4) or not 1 <= self.nodes <= _MAX_NODES:
            raise ParameterError(
                f"expected 1 to {_MAX_NODES} nodes of 2 or 4 children, got {self.nodes} of {self.children}"
            )

    @property
    def uniform(self) -> tuple[Field, ...]:
        opened = 2 * (self.children - 1) * self.nodes + self.nodes - 1
        return (Field((opened, self.words), xor=True),)

    @property
    def derived(self) -> tuple[Field, ...]:
        tops = self.children - 1
        rows = [2**tops - 1 - tops, *(2 ** (tops - i) - 1 for i in range(tops))]
        shapes = [*((n, self.nodes, self.words) for n in rows), (2**tops - 1, self.nodes - 1, self.words)]
        return tuple(Field(shape, xor=True) for shape in shapes)

    def split(self, planes: RingArray) -> tuple[RingArray, RingArray, RingArray]:
        """Return views of a level's opened planes or of their masks: those of t, of u, and of z.

        Args:
            planes: (opened, words).

        Returns:
            Arrays of shape (children - 1, nodes, words) twice, and (nodes - 1, words).
        """
        tops = (self.children - 1) * self.nodes
        shape = self.children - 1, self.nodes, self.words
        return planes[:tops].reshape(shape), planes[tops : 2 * tops].reshape(shape), planes[2 * tops :]

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        (masks,) = self._values(first, second)
        tops, carries, lowest = self.split(masks)
        products = subset_products(tops)
        several = [s - 1 for s in range(1, len(products) + 1) if s.bit_count() > 1]
        with_carries = [carry & subset_products(tops[i:]) for i, carry in enumerate(carries)]
        return [products[several], *with_carries, lowest & products[:, 1:]]
