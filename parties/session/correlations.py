"""Where a session's correlated randomness comes from: from transfers between the two parties, or from a dealer."""

from enum import StrEnum

from protocols.channel import CLIENT, Channel
from protocols.correlations import CorrelationSource, DealerClient, DealerServer
from protocols.correlations.two_party.source import TransferSource
from protocols.errors import ParameterError

__all__ = ["Correlations", "open_source"]


class Correlations(StrEnum):
    """Who makes the correlations."""

    OT = "ot"
    """Client and server, by silent oblivious transfer: nobody else takes part."""

    OT_IKNP = "ot-iknp"
    """The same, by transfers that rest on AES alone, and send 16 bytes each."""

    DEALER = "dealer"
    """A third party, who sees no data, and must collude with neither."""

    @property
    def needs_dealer(self) -> bool:
        """Whether there is a third party."""
        return self is Correlations.DEALER


def open_source(rank: int, correlations: Correlations, peer: Channel, dealer: Channel | None) -> CorrelationSource:
    """Open a party's end.

    Args:
        peer: channel to the other party. dealer: to the dealer, if there is one.

    Raises:
        ParameterError: there is a dealer where none is needed, or the other way round.
    """
    if (dealer is not None) != correlations.needs_dealer:
        raise ParameterError(f"expected a dealer for correlations from one, and else none, got {correlations.value}")
    if dealer is not None:
        return (DealerClient if rank == CLIENT else DealerServer)(dealer)
    return TransferSource(rank, peer, "iknp" if correlations is Correlations.OT_IKNP else "silent")
