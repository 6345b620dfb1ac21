"""Which face of a photo counts."""

from enum import StrEnum

__all__ = ["FaceChoice"]


class FaceChoice(StrEnum):
    """Which face of a photograph is meant when several are found.

    ONLY refuses several: a photograph that is to identify somebody must show nobody else. LARGEST and CENTRE are for
    measuring on collections, CENTRE (the face whose middle is nearest the photograph's) where they are cropped around
    the person that they name.
    """

    ONLY = "only"
    LARGEST = "largest"
    CENTRE = "centre"
