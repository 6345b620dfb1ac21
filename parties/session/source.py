"""Where a session's correlated randomness comes from: from transfers between the two parties, or from a dealer."""

from parties.session.correlations import Correlations
from protocols.channel import CLIENT, Channel
from protocols.correlations import CorrelationSource, DealerClient, DealerServer
from protocols.correlations.two_party.source import TransferSource
from protocols.errors import ParameterError

__all__ = ["open_source"]


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
