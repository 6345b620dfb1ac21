"""How photos are read: which face counts, whether damage is accepted, and who hears what is odd about a photo."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from hybridface.faces.choice import FaceChoice
from protocols.errors import ParameterError

__all__ = ["AS_GIVEN", "PhotoOptions", "PhotoWarning", "warn"]


class PhotoWarning(UserWarning):
    """A photo was used although something about it is odd; the text says what, in one line."""


def warn(text: str) -> None:
    """Issue a `PhotoWarning`: what becomes of a warning's line where nobody else takes it."""
    warnings.warn(text, PhotoWarning, stacklevel=2)


@dataclass(frozen=True)
class PhotoOptions:
    """How photos are read.

    Args:
        face: the face that is meant, where several are found; also by its name.
        accept_damaged: use a photo of which a part is missing, if the face is outside that part.
        on_warning: called with one line for each photo that was used although something about it is odd.

    Raises:
        ParameterError: there is no such choice of a face.
    """

    face: FaceChoice | str = FaceChoice.ONLY
    accept_damaged: bool = False
    on_warning: Callable[[str], None] = field(default=warn, compare=False)

    def __post_init__(self) -> None:
        if self.face not in list(FaceChoice):
            raise ParameterError(f"expected the face {', '.join(FaceChoice)}, got {self.face!r}")


AS_GIVEN = PhotoOptions()
"""A whole photo that shows one face."""
