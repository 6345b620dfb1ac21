"""Make correlated randomness by oblivious transfer: client and server make it together, without a third party.

The interface is that of a dealer's party. Both parties must make the same calls in the same order. A call makes all
correlations of its requests together: those of one kind in one go (`groups`), and all kinds in joint turns (`turns`).

Security: see `protocols.transfers` and the makers beside this file. It holds for semi-honest parties. Everything that a
party sends is masked by pads and choices that are used once. Messages travel on the parties' own channel.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import Channel
from protocols.correlations.fixed_mask import FixedMask, FixedNorms, FixedProduct, FixedRequest
from protocols.correlations.request import Request
from protocols.correlations.source import CorrelationPool
from protocols.correlations.two_party.ends import End
from protocols.correlations.two_party.fixed_products import FixedProducts, check_mask, fixed_norms, fixed_product
from protocols.correlations.two_party.groups import Group, check_request, grouped
from protocols.correlations.two_party.turns import Steps, finish, pieces, together
from protocols.errors import ParameterError, ProtocolError
from protocols.transfers import TransferKind

__all__ = ["TransferSource"]

_TOGETHER = 12
"""The most kinds that are made in joint turns. Each kind keeps some megabytes of pads."""


class TransferSource(CorrelationPool):
    """One party's end. The transfers start when both sides make something for the first time.

    Args:
        rank: 0 the client, 1 the server.
        channel: to the other party.
        kind: of the transfers: "silent" or "iknp", the same on both sides.
    """

    def __init__(self, rank: int, channel: Channel, kind: TransferKind = "silent") -> None:
        super().__init__()
        self._open = partial(End.open, rank, channel, kind)
        self._end: End | None = None
        self._channel = channel
        self._mask: FixedMask | None = None
        self._products: FixedProducts | None = None
        self._made = 0
        self._failed = False

    def transfers(self) -> End:
        """Return the random transfers, for uses besides correlations. The first call starts them.

        Raises:
            ProtocolError: a message of the other party is malformed, or an earlier call failed.
            PeerLostError: the other party is gone.
        """
        with self._speaking():
            return self._opened()

    def prepare(self, requests: Sequence[Request]) -> None:
        """Make correlations ahead of time.

        Raises:
            ParameterError: one of them cannot be made without a dealer. Then this call makes none.
            ProtocolError: a message of the other party is malformed, or an earlier call failed.
            PeerLostError: the other party is gone.
        """
        for request in requests:
            if isinstance(request, FixedRequest):
                check_mask(request, self._mask)
            else:
                check_request(request)
        groups = grouped(requests)
        with self._speaking():
            for part in pieces(len(groups), _TOGETHER):
                makers = [self._maker(group) for group in groups[part]]
                for group, made in zip(groups[part], finish(together(makers)), strict=True):
                    for request, shares in zip(group.members, made, strict=True):
                        self.put(request, shares)

    def take(self, request: Request) -> list[RingArray]:
        """Return this party's shares of a correlation: prepared ones, or if there are none, new ones."""
        pooled = self._pooled(request)
        if pooled is not None:
            return pooled
        self.prepare([request])
        return self._pool[request].popleft()

    def tell_mask(self, mask: FixedMask) -> None:
        """Accept this party's share of the fixed mask, for the rest of the session. Both parties do this."""
        self._mask = mask

    def end(self) -> None:
        """Do nothing: there is no third party to end."""

    def _opened(self) -> End:
        if self._end is None:
            self._end = self._open()
        return self._end

    def _maker(self, group: Group) -> Steps[list[list[RingArray]]]:
        self._made += 1
        label = f"correlations {self._made}"
        if isinstance(group.kind, FixedRequest):
            return self._fixed(label, group.kind)
        return group.make(self._opened(), label)

    def _fixed(self, label: str, request: FixedRequest) -> Steps[list[list[RingArray]]]:
        mask = check_mask(request, self._mask)
        if isinstance(request, FixedNorms):
            return [(yield from fixed_norms(self._opened(), label, request, mask))]
        if not isinstance(request, FixedProduct):
            raise ParameterError(f"expected a correlation about a fixed mask, got {request}")
        if self._products is None:
            self._products = FixedProducts(self._channel)
        return [(yield from fixed_product(self._products, label, request, mask))]

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Refuse to send or receive after an error, because then the parties are out of step."""
        if self._failed:
            raise ProtocolError("expected no earlier error, but making correlations has failed before")
        self._failed = True
        yield
        self._failed = False
