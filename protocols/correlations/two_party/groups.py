"""Group the requests that can be made in one go, because they differ in their size only.

A group is made some words at a time, with 64 elements to a word. Requests with a structure of their own are made one by
one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protocols.arithmetic.bitplanes import plane_words
from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.comparison_masks import BorrowJoin, ComparisonMask
from protocols.correlations.request import Field, Request
from protocols.correlations.two_party import arithmetic, bilinear
from protocols.correlations.two_party.comparison_masks import comparison_masks, join_masks, pad_words
from protocols.correlations.two_party.ends import PIECE, End
from protocols.correlations.two_party.turns import Steps, pieces
from protocols.correlations.types import (
    ArithmeticTriple,
    BinaryTriple,
    SharedBit,
    SquarePair,
    TruncationMask,
    WrapCount,
)
from protocols.errors import ParameterError

__all__ = ["Group", "check_request", "grouped"]

Shares = list[RingArray]

_BY_WORDS: dict[type[Request], tuple[Callable[..., Steps[Shares]], Callable[[Any], int]]] = {
    ComparisonMask: (comparison_masks, lambda kind: kind.bits * pad_words(kind)),
    BorrowJoin: (join_masks, lambda kind: 2 * kind.children * kind.nodes),
    SharedBit: (arithmetic.shared_bit, lambda kind: 1),
    SquarePair: (arithmetic.square_pair, lambda kind: 64),
    TruncationMask: (arithmetic.truncation_mask, lambda kind: 128),
    WrapCount: (arithmetic.wrap_count, lambda kind: 2),
}
"""For each type, a maker that makes a number of words, and about how many words of pads it keeps for an element."""

_ONE_BY_ONE: dict[type[Request], Callable[..., Steps[Shares]]] = {
    ArithmeticTriple: bilinear.arithmetic_triple,
    BinaryTriple: arithmetic.binary_triple,
}


def check_request(request: Request) -> None:
    """Refuse a request that transfers cannot make.

    Raises:
        ParameterError: the request is too large, or of no known type.
    """
    if type(request) not in {**_BY_WORDS, **_ONE_BY_ONE}:
        raise ParameterError(f"expected a correlation that transfers can make, got {request}")
    if isinstance(request, ArithmeticTriple):
        bilinear.check_triple(request)


@dataclass(frozen=True)
class Group:
    """Requests that are made in one go.

    Args:
        kind: what the requests have in common.
        members: the requests, one or more. If `kind` is not made by words, it is the only one.
    """

    kind: Request
    members: tuple[Request, ...]

    def make(self, end: End, label: str) -> Steps[list[Shares]]:
        """Make a party's shares of every member's fields."""
        if type(self.kind) in _BY_WORDS:
            return (yield from self._by_words(end, label))
        return [(yield from _ONE_BY_ONE[type(self.kind)](end, label, self.kind))]

    def _by_words(self, end: End, label: str) -> Steps[list[Shares]]:
        maker, pads = _BY_WORDS[type(self.kind)]
        sizes = [_words(member) for member in self.members]
        shares = [[np.empty(field.shape, dtype=np.uint64) for field in _fields(member)] for member in self.members]
        for part in pieces(sum(sizes), max(1, PIECE // (64 * pads(self.kind)))):
            made = yield from maker(end, f"{label}/{part.start}", self.kind, part.stop - part.start)
            _hand_out(made, part, shares, sizes)
        return shares


def grouped(requests: Sequence[Request]) -> list[Group]:
    """Return the groups of some requests, in the order of each group's first request."""
    groups: dict[Any, list[Request]] = {}
    for place, request in enumerate(requests):
        key = _kind(request)
        groups.setdefault(key if type(request) in _BY_WORDS else place, []).append(request)
    return [Group(_kind(members[0]), tuple(members)) for members in groups.values()]


def _kind(request: Request) -> Request:
    """Return a request without its size."""
    match request:
        case ComparisonMask():
            return replace(request, count=0)
        case BorrowJoin():
            return replace(request, words=0)
        case SharedBit() | SquarePair() | TruncationMask() | WrapCount():
            return replace(request, shape=())
    return request


def _words(request: Request) -> int:
    return request.words if isinstance(request, BorrowJoin) else plane_words(math.prod(request.uniform[0].shape))


def _hand_out(made: Shares, part: slice, shares: Sequence[Shares], sizes: Sequence[int]) -> None:
    """Copy a part of all members' words into the members' fields: planes (..., words), or elements (64 words,)."""
    place = 0
    for fields, size in zip(shares, sizes, strict=True):
        first, last = max(part.start, place), min(part.stop, place + size)
        for field, one in zip(fields, made, strict=True):
            step = one.shape[-1] // (part.stop - part.start)  # 1 for planes, 64 for elements
            words = one[..., step * (first - part.start) : step * (last - part.start)]
            if first < last and step == 1:
                field[..., first - place : last - place] = words
            elif first < last:
                elements = field.reshape(-1)[step * (first - place) : step * (last - place)]
                elements[:] = words[: elements.size]
        place += size


def _fields(request: Request) -> tuple[Field, ...]:
    return (*request.uniform, *request.derived)
