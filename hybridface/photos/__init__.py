"""Six portraits of public figures under free licences (CREDITS.md), for the demonstration and the tests."""

from importlib.resources import files
from pathlib import Path

from hybridface.errors import ImageError

__all__ = ["PHOTOS", "photo_path"]

PHOTOS = (
    "person_a_1.jpg",
    "person_a_2.jpg",
    "person_b_1.jpg",
    "person_b_2.jpg",
    "impostor_1.jpg",
    "impostor_2.jpg",
)
"""Their names; two people are there twice."""


def photo_path(name: str) -> Path:
    """Return the path of a portrait, such as "person_a_1.jpg".

    Raises:
        ImageError: there is no such portrait.
    """
    path = Path(str(files(__name__) / Path(name).name))
    if not path.is_file():
        raise ImageError(f"expected the name of a portrait in hybridface.photos, got {name!r}")
    return path
