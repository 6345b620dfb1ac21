"""Who makes a session's correlated randomness: transfers between the two parties, or a dealer."""

from enum import StrEnum

__all__ = ["Correlations"]


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
