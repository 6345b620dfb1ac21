"""Draw a party's random transfers, in both directions. All correlations without a dealer are made from them.

In every transfer one party *offers* two pads and the other *chooses* one (`protocols.transfers`). Client and server
have two instances: one in which the client chooses, one in which the server does. The makers beside this file send
differences to turn transfers into correlations. Each difference is masked by pads or choices that are used for nothing
else.
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
"""How many high bits of a pad's last word mask bits. Other bits of its first word mask numbers. No bit does both."""


PIECE = 1 << 19
"""About how many words of pads a maker keeps at a time as the chooser: 4 MiB. The offerer keeps twice as many."""


@dataclass(frozen=True)
class Drawn:
    """A party's end of some transfers.

    Args:
        pads: uint64 (sides, count, words). The chooser has one side, the pads that it chose. The offerer has two.
        choices: uint8 (count,), each 0 or 1; empty for the offerer.
    """

    pads: RingArray
    choices: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))

    @property
    def is_chooser(self) -> bool:
        """Whether this party chose."""
        return len(self.pads) == 1

    @property
    def choice_plane(self) -> RingArray:
        """The choices as a bit plane. There must be a multiple of 64."""
        return np.packbits(self.choices, bitorder="little").view(np.uint64)

    def planes(self, count: int) -> RingArray:
        """Return the first `count` of the PLANE_BITS bits of all pads as planes (sides, count, words).

        There must be a multiple of 64 pads.
        """
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
        chooser: makes the transfers in which this party chooses.
        offerer: makes the transfers in which this party offers.
    """

    rank: int
    channel: Channel
    chooser: RandomReceiver
    offerer: RandomSender

    @classmethod
    def open(cls, rank: int, channel: Channel, kind: TransferKind = "silent") -> "End":
        """Start both instances, with the other party.

        Raises:
            ProtocolError: a message of the other party is malformed. PeerLostError: the other party is gone.
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
            words: how many words a pad has, 1 or 2.
        """
        if self.rank == chooser:
            choices, pads = self.chooser.draw(count, words)
            return Drawn(pads[None], choices)
        return Drawn(self.offerer.draw(count, words).swapaxes(0, 1))
