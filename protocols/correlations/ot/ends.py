"""A party's random transfers, in both directions: what all correlations without a dealer are made from.

In every transfer one party *offers* two pads and the other *chooses* one (`protocols.transfers`). Client and server
have two instances: one in which the client chooses, one in which the server does. The makers beside this file turn
transfers into correlations by sending differences, each masked by pads or choices that are used for nothing else.
"""

from dataclasses import dataclass

from protocols.channel import Channel
from protocols.ranks import CLIENT
from protocols.transfers import Kind, RandomReceiver, RandomSender

__all__ = ["End"]


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
    def open(cls, rank: int, channel: Channel, kind: Kind = "silent") -> "End":
        """Start both instances, with the other party.

        Raises:
            ProtocolError: a message of the other party is malformed. PeerLostError: it is gone.
        """
        if rank == CLIENT:
            chooser = RandomReceiver(channel, "client chooses", kind)
            return cls(rank, channel, chooser, RandomSender(channel, "server chooses", kind))
        offerer = RandomSender(channel, "client chooses", kind)
        return cls(rank, channel, RandomReceiver(channel, "server chooses", kind), offerer)
