"""The two kinds of gallery."""

from enum import StrEnum

__all__ = ["GalleryKind"]


class GalleryKind(StrEnum):
    """What a share is: the server's part of a template, or all of it."""

    PRIVATE = "private"
    LIST = "list"
