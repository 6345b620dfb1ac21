"""Options for reading photos: which face counts, whether damage is accepted, and where warnings go."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from hybridface.faces.choice import FaceChoice
from protocols.errors import ParameterError

__all__ = ["AS_GIVEN", "PhotoOptions", "PhotoWarning", "warn"]


class PhotoWarning(UserWarning):
    """A photo was used although something about it is odd; the text says what, in one line."""


def warn(text: str) -> None:
    """Issue a `PhotoWarning`: the default for a warning that nobody else takes."""
    warnings.warn(text, PhotoWarning, stacklevel=2)


@dataclass(frozen=True)
class PhotoOptions:
    """How photos are read.

    Args:
        face: the face that counts where several are found: a `FaceChoice`, or its name.
        accept_damaged: use a photo with a missing part, if the face is outside that part.
        on_warning: called with one line for each photo that was used although something about it is odd.

    Raises:
        ParameterError: `face` is no `FaceChoice`.
    """

    face: FaceChoice | str = FaceChoice.ONLY
    accept_damaged: bool = False
    on_warning: Callable[[str], None] = field(default=warn, compare=False)

    def __post_init__(self) -> None:
        if self.face not in list(FaceChoice):
            raise ParameterError(f"expected the face {', '.join(FaceChoice)}, got {self.face!r}")


AS_GIVEN = PhotoOptions()
"""The default options: accept whole photos that show one face."""
