"""A party's random transfers, in both directions: what all correlations without a dealer are made from.

In every transfer one party *offers* two pads and the other *chooses* one (`protocols.transfers`). Client and server
have two instances: one in which the client chooses, one in which the server does. The makers beside this file turn
transfers into correlations by sending differences, each masked by pads or choices that are used for nothing else.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, Channel
from protocols.correlations.two_party.kernels import pad_planes
from protocols.transfers import RandomReceiver, RandomSender, TransferKind

__all__ = ["PIECE", "PLANE_BITS", "Drawn", "End"]

PLANE_BITS = 32
"""The high bits of a pad's last word mask bits, the others of the first word mask numbers: never both."""


PIECE = 1 << 19
"""Words of pads that a maker keeps at a time, on the chooser's side, about: 4 MiB, and twice that on the offerer's."""


@dataclass(frozen=True)
class Drawn:
    """What a party has of some transfers.

    Args:
        pads: uint64 (sides, count, words): of the chooser, the one it chose; of the offerer, both.
        choices: uint8 (count,), each 0 or 1; of the offerer, empty.
    """

    pads: RingArray
    choices: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))

    @property
    def is_chooser(self) -> bool:
        """Whether this party chose."""
        return len(self.pads) == 1

    @property
    def choice_plane(self) -> RingArray:
        """The choices of a multiple of 64 transfers as a bit plane."""
        return np.packbits(self.choices, bitorder="little").view(np.uint64)

    def planes(self, count: int) -> RingArray:
        """Return the first `count` of the PLANE_BITS bits of a multiple of 64 pads as planes (sides, count, words)."""
        words = self.pads[..., -1]
        planes = np.empty((len(words), count, words.shape[1] // 64), dtype=np.uint64)
        for pads, out in zip(words, planes, strict=True):
            pad_planes(pads, 64 - PLANE_BITS, out)
        return planes


@dataclass(frozen=True)
class End:
    """One party's end.

    Args:
        rank: 0 the client, 1 the server.
        channel: to the other party.
        chooser: of the transfers in which this party chooses.
        offerer: of those in which it offers.
    """

    rank: int
    channel: Channel
    chooser: RandomReceiver
    offerer: RandomSender

    @classmethod
    def open(cls, rank: int, channel: Channel, kind: TransferKind = "silent") -> "End":
        """Start both instances, with the other party.

        Raises:
            ProtocolError: a message of the other party is malformed. PeerLostError: it is gone.
        """
        if rank == CLIENT:
            chooser = RandomReceiver(channel, "client chooses", kind)
            return cls(rank, channel, chooser, RandomSender(channel, "server chooses", kind))
        offerer = RandomSender(channel, "client chooses", kind)
        return cls(rank, channel, RandomReceiver(channel, "server chooses", kind), offerer)

    def draw(self, chooser: int, count: int, words: int = 1) -> Drawn:
        """Draw transfers, with the other party.

        Args:
            chooser: the rank of the party that chooses.
            words: of a pad, 1 or 2.
        """
        if self.rank == chooser:
            choices, pads = self.chooser.draw(count, words)
            return Drawn(pads[None], choices)
        return Drawn(self.offerer.draw(count, words).swapaxes(0, 1))
