"""Six portraits of public figures under free licences (CREDITS.md), for the demonstration and the tests."""

from importlib.resources import files
from pathlib import Path

from hybridface.errors import ImageError

__all__ = ["photo_path"]


def photo_path(name: str) -> Path:
    """Return the path of a portrait, such as "person_a_1.jpg".

    Raises:
        ImageError: there is no such portrait.
    """
    path = Path(str(files(__name__) / Path(name).name))
    if not path.is_file():
        raise ImageError(f"expected the name of a portrait in hybridface.photos, got {name!r}")
    return path
