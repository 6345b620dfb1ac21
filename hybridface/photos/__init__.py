"""Six portraits of public figures under free licences (CREDITS.md), for the demonstration and the tests."""

import shutil
from importlib.resources import files
from pathlib import Path

from hybridface.errors import ImageError

__all__ = ["PHOTOS", "copy_photos", "photo_path"]

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


def copy_photos(folder: Path) -> int:
    """Copy the portraits and their credits into a folder, which is made if need be, and return how many portraits.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*PHOTOS, "CREDITS.md"):
        shutil.copyfile(str(files(__name__) / name), folder / name)
    return len(PHOTOS)
