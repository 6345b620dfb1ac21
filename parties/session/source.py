"""Open the source of a session's correlations: oblivious transfers between the two parties, or a dealer."""

from parties.session.correlations import Correlations
from protocols.channel import CLIENT, Channel
from protocols.correlations import CorrelationSource, DealerClient, DealerServer
from protocols.correlations.two_party.source import TransferSource
from protocols.errors import ParameterError

__all__ = ["open_source"]


def open_source(rank: int, correlations: Correlations, peer: Channel, dealer: Channel | None) -> CorrelationSource:
    """Open a party's end of the source.

    Args:
        peer: channel to the other party.
        dealer: channel to the dealer, or None.

    Raises:
        ParameterError: a dealer is given but not needed, or needed but not given.
    """
    if (dealer is not None) != correlations.needs_dealer:
        raise ParameterError(f"expected a dealer for a dealer's correlations, else none, got {correlations.value}")
    if dealer is not None:
        return (DealerClient if rank == CLIENT else DealerServer)(dealer)
    return TransferSource(rank, peer, "iknp" if correlations is Correlations.OT_IKNP else "silent")
