"""Which face of a photo counts."""

from enum import StrEnum

__all__ = ["FaceChoice"]


class FaceChoice(StrEnum):
    """Which face of a photograph counts when several are found.

    ONLY refuses a photograph with several faces: if it is to identify somebody, it should show nobody else. LARGEST is
    the face that covers most of the photograph. CENTRE is the face nearest to the middle of the photograph.
    """

    ONLY = "only"
    LARGEST = "largest"
    CENTRE = "centre"
