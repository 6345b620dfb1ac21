"""Name the two kinds of gallery."""

from enum import StrEnum

__all__ = ["GalleryKind"]


class GalleryKind(StrEnum):
    """The kind of a gallery. In a private one, a stored share is a part of a template; in a list, all of it."""

    PRIVATE = "private"
    LIST = "list"
