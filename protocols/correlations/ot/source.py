"""Correlated randomness by oblivious transfer: client and server make it with each other, and with nobody else.

The same interface as a dealer's party. The two parties make the same calls in the same order; what is asked for
together is made together, correlations of one kind in one go. Security: `protocols.transfers` and the makers beside
this file; semi-honest, and what is sent is masked by pads and choices that are used once. Messages travel on the
parties' own channel.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from protocols.bitplanes import plane_words
from protocols.channel import Channel
from protocols.correlations.comparison import BorrowJoin, ComparisonMask
from protocols.correlations.fixed_mask import FixedMask, FixedNorms, FixedProduct, FixedRequest
from protocols.correlations.ot import arithmetic, bilinear
from protocols.correlations.ot.comparison_masks import comparison_masks
from protocols.correlations.ot.ends import End
from protocols.correlations.ot.fixed import fixed_norms
from protocols.correlations.ot.fixed_products import FixedProducts
from protocols.correlations.ot.join_masks import join_masks
from protocols.correlations.pool import CorrelationPool
from protocols.correlations.request import Request
from protocols.correlations.types import (
    ArithmeticTriple,
    BinaryTriple,
    SharedBit,
    SquarePair,
    TruncationMask,
    WrapCount,
)
from protocols.errors import ParameterError, ProtocolError
from protocols.ring import RingArray
from protocols.transfers import Kind

__all__ = ["TransferSource"]

_MAKERS: dict[type[Request], Callable[..., list[RingArray]]] = {
    ArithmeticTriple: bilinear.arithmetic_triple,
    BinaryTriple: arithmetic.binary_triple,
    SharedBit: arithmetic.shared_bit,
    SquarePair: arithmetic.square_pair,
    TruncationMask: arithmetic.truncation_mask,
    WrapCount: arithmetic.wrap_count,
}


class TransferSource(CorrelationPool):
    """One party's end. The transfers begin when something is made for the first time, on both sides at once.

    Args:
        rank: 0 the client, 1 the server.
        channel: to the other party.
        kind: of the transfers: "silent" or "iknp", the same on both sides.
    """

    def __init__(self, rank: int, channel: Channel, kind: Kind = "silent") -> None:
        super().__init__()
        self._begin = partial(End.open, rank, channel, kind)
        self._transfers: End | None = None
        self._mask: FixedMask | None = None
        self._channel = channel
        self._products: FixedProducts | None = None
        self._made = 0
        self._failed = False

    @property
    def transfers(self) -> End:
        """Random transfers, for those who want more than correlations.

        Raises:
            ProtocolError: a message of the other party is malformed. PeerLostError: it is gone.
        """
        if self._transfers is None:
            self._transfers = self._begin()
        return self._transfers

    def prepare(self, requests: Sequence[Request]) -> None:
        """Make correlations ahead of time.

        Raises:
            ParameterError: one is too large to make without a dealer.
        """
        if self._failed:
            raise ProtocolError("expected correlations that can be made, but a preparation has failed before")
        self._failed = True
        for kind, members in _by_kind(requests):
            for request, shares in zip(members, self._make(kind, members), strict=True):
                self.put(request, shares)
        self._failed = False

    def take(self, request: Request) -> list[RingArray]:
        """Return this party's shares of a correlation: prepared ones first, else made now."""
        pooled = self._pooled(request)
        if pooled is not None:
            return pooled
        self.prepare([request])
        return self._pool[request].popleft()

    def tell_mask(self, mask: FixedMask) -> None:
        """Take this party's share of the fixed mask, for the rest of the session; both parties do."""
        self._mask = mask

    def end(self) -> None:
        """Nobody else has to be told."""

    def _make(self, kind: Request, members: Sequence[Request]) -> list[list[RingArray]]:
        """Make all members of a kind."""
        label = f"correlations {self._made} {type(kind).kind}"
        self._made += 1
        if isinstance(kind, ComparisonMask | BorrowJoin):
            maker: Any = comparison_masks if isinstance(kind, ComparisonMask) else join_masks
            sizes = [_words(member) for member in members]
            return _split(maker(self.transfers, label, kind, sum(sizes)), members, sizes)
        if isinstance(kind, FixedRequest):
            if self._mask is None or self._mask.dimension != kind.dimension:
                raise ParameterError(f"expected a fixed mask of dimension {kind.dimension} before {kind}")
            return [self._make_fixed(label, member, self._mask) for member in members]
        return [_MAKERS[type(kind)](self.transfers, label, member) for member in members]

    def _make_fixed(self, label: str, request: Request, mask: FixedMask) -> list[RingArray]:
        if isinstance(request, FixedNorms):
            return fixed_norms(self.transfers, label, request, mask)
        if not isinstance(request, FixedProduct):
            raise ParameterError(f"expected a correlation about a fixed mask, got {request}")
        if self._products is None:
            self._products = FixedProducts(self._channel)
        return self._products.make(label, request, mask)


def _by_kind(requests: Iterable[Request]) -> list[tuple[Request, list[Request]]]:
    """Group what is made in one go: comparisons that differ in their number only; else what is the same."""
    groups: dict[Request, list[Request]] = {}
    for request in requests:
        kind = request
        if isinstance(request, ComparisonMask):
            kind = replace(request, count=0)
        elif isinstance(request, BorrowJoin):
            kind = replace(request, words=0)
        groups.setdefault(kind, []).append(request)
    return list(groups.items())


def _words(request: Request) -> int:
    if isinstance(request, BorrowJoin):
        return request.words
    return plane_words(request.count) if isinstance(request, ComparisonMask) else 0


def _fields(request: Request) -> tuple[Any, ...]:
    return (*request.uniform, *request.derived)


def _split(fields: Sequence[RingArray], members: Sequence[Request], sizes: Sequence[int]) -> list[list[RingArray]]:
    """Return each member's part of fields that were made for all: some words of planes, 64 elements to a word."""
    parts, start = [], 0
    total = sum(sizes)
    for member, words in zip(members, sizes, strict=True):
        shares = []
        for field, made in zip(_fields(member), fields, strict=True):
            step = made.shape[-1] // total  # 1 for planes, 64 for elements
            part = made[..., step * start : step * (start + words)]
            shares.append(np.ascontiguousarray(part[..., : field.shape[-1]]))
        parts.append(shares)
        start += words
    return parts
