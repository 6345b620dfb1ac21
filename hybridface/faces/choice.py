"""Which face of a photo counts."""

from enum import StrEnum

__all__ = ["FaceChoice"]


class FaceChoice(StrEnum):
    """Which face of a photograph is meant when several are found.

    ONLY refuses several: a photograph that is to identify somebody should show nobody else. LARGEST is the face that
    covers most of the photograph, CENTRE the one whose middle is nearest the photograph's.
    """

    ONLY = "only"
    LARGEST = "largest"
    CENTRE = "centre"
