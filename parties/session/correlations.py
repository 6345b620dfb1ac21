"""Name who makes a session's correlations: client and server by oblivious transfer, or a dealer."""

from enum import StrEnum

__all__ = ["Correlations"]


class Correlations(StrEnum):
    """Who makes the correlations."""

    OT = "ot"
    """Client and server, by silent oblivious transfer: nobody else takes part."""

    OT_IKNP = "ot-iknp"
    """Client and server, by oblivious transfers that rest on AES alone and send 16 bytes each."""

    DEALER = "dealer"
    """A third party that sees no data. It must not collude with the client or the server."""

    @property
    def needs_dealer(self) -> bool:
        """Whether a dealer takes part."""
        return self is Correlations.DEALER
