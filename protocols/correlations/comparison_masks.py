"""Define the correlations that a comparison uses up: the mask of its input, and the masks of a level of its tree.

A comparison on k bits cuts the bits below the sign into groups of four, or of three. The products of groups of three
cost less to make without a dealer (see `Cut`).

Both correlations carry products of mask bits. So products of *masked* bits are sums of shares with public coefficients
(see `borrow_tree`). Every set of mask bits m_0, m_1, ... has a number: the integer whose bit i says whether m_i is in
the set. Row S - 1 of an array of products belongs to set S.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from protocols.arithmetic.bitplanes import bit_planes, plane_words, subset_products, unpack_plane
from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.request import Field, FreeRequest
from protocols.errors import ParameterError

__all__ = ["WIDTHS", "BorrowJoin", "ComparisonMask", "Cut", "by_group"]

_GROUPS_OF = {4: 4, 8: 4, 16: 4, 19: 3, 22: 3, 28: 3, 32: 4, 64: 4}

WIDTHS = tuple(_GROUPS_OF)
"""How many bits a comparison may look at."""

_MAX_NODES = 16


@dataclass(frozen=True)
class Cut:
    """How the bits of r below the sign are cut into the leaves of a comparison's tree.

    A group is a run of neighbouring bits. The products of its bits come with the mask. The lowest group may be smaller.

    Args:
        lowest: bits of the lowest group.
        group: bits of each further group.
        further: how many further groups there are.
    """

    lowest: int
    group: int
    further: int

    @classmethod
    def of(cls, bits: int, signed: bool) -> "Cut":
        """Return the cut of a comparison on `bits` bits. If `signed`, the highest bit is a sign.

        Raises:
            ParameterError: there is no such width.
        """
        if bits not in _GROUPS_OF or not (signed or bits % _GROUPS_OF[bits] == 0):
            raise ParameterError(f"expected {', '.join(map(str, WIDTHS))} bits, got {bits}")
        group = _GROUPS_OF[bits]
        lowest = (bits - signed) % group or group
        return cls(lowest, group, (bits - signed - lowest) // group)

    @property
    def groups(self) -> int:
        """How many groups there are, with the lowest."""
        return 1 + self.further


def by_group(planes: RingArray, group: int) -> RingArray:
    """Return a view of planes (group n, words) as (group, n, words): bit i of group j is at [i, j]."""
    return planes.reshape(len(planes) // group, group, planes.shape[-1]).swapaxes(0, 1)


@dataclass(frozen=True)
class ComparisonMask(FreeRequest):
    """The mask of a comparison of `count` elements on their low `bits` bits (see `comparison`).

    The fields, in this order:

    - r (count,), additive;
    - b, one mask bit for each element, as a bit plane;
    - the products of all sets of the bits of r in the lowest group, as bit planes (2^lowest - 1, words);
    - the same for every further group, from the lowest up, as bit planes (2^group - 1, further, words);
    - if `signed`, the top bit r[bits - 1], which is in no group, as a bit plane (words,);
    - if `select`, b and r b, additive, (count,) each.
    """

    kind: ClassVar[str] = "comparison-mask"
    count: int
    bits: int = 32
    select: bool = True
    signed: bool = True

    def __post_init__(self) -> None:
        Cut.of(self.bits, self.signed)

    @property
    def cut(self) -> Cut:
        """How the bits are cut into groups."""
        return Cut.of(self.bits, self.signed)

    @property
    def uniform(self) -> tuple[Field, ...]:
        return Field((self.count,)), Field((plane_words(self.count),), xor=True)

    @property
    def derived(self) -> tuple[Field, ...]:
        words, cut = plane_words(self.count), self.cut
        shapes = [(2**cut.lowest - 1, words), (2**cut.group - 1, cut.further, words)]
        planes = tuple(Field(shape, xor=True) for shape in [*shapes, *([(words,)] if self.signed else [])])
        return (*planes, Field((self.count,)), Field((self.count,))) if self.select else planes

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        r, b = self._values(first, second)
        planes, cut = bit_planes(r, self.bits), self.cut
        groups = by_group(planes[cut.lowest : -1 if self.signed else None], cut.group)
        derived = [subset_products(planes[: cut.lowest]), subset_products(groups)]
        if self.signed:
            derived.append(planes[-1])
        if self.select:
            bit = unpack_plane(b, self.count)
            derived += [bit, r * bit]
        return derived


@dataclass(frozen=True)
class BorrowJoin(FreeRequest):
    """The masks of one level of a comparison's tree: `nodes` nodes of `children` children each (see `borrow_tree`).

    The children of a node are numbered from the lowest. A node has these mask bits:

    - t_i, for the propagate bit of child i >= 1;
    - u_i, for the generate bit of child i < children - 1;
    - z, for the propagate bit of child 0, except in the lowest node.

    The fields, in this order:

    - the masks, in the order of `split`;
    - the products of all sets of two or more t_i, in the order of the sets' numbers
      (2^(children-1) - children, nodes, words);
    - for every i, the products of u_i with all sets of t_(i+1), t_(i+2), ... (2^(children-1-i) - 1, nodes, words);
    - the products of z with all sets of t_i (2^(children-1) - 1, nodes - 1, words).
    """

    kind: ClassVar[str] = "borrow-join"
    children: int
    nodes: int
    words: int

    def __post_init__(self) -> None:
        if self.children not in (2, 3, 4) or not 1 <= self.nodes <= _MAX_NODES:
            raise ParameterError(
                f"expected 1 to {_MAX_NODES} nodes of 2 to 4 children, got {self.nodes} of {self.children}"
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
        """Return views of a level's opened planes, or of their masks: those of t, of u, and of z.

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
