"""A collection of photos in a folder or a tar file: list it without unpacking, and give the photos when needed.

Photos are named by their paths (NAME/NAME_0001.jpg in LFW). Folders around all photos are not part of the names.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hybridface.errors import ImageError
from hybridface.faces.archives import DAMAGE, sizes_in, unpack
from hybridface.faces.formats import SUFFIXES
from hybridface.folders import temporary_folder
from parties.machine.walks import files_below

__all__ = ["PhotoSource", "open_photos"]


@dataclass(frozen=True)
class PhotoSource:
    """Photos in a folder or tar file.

    Args:
        path: the folder or tar file.
        around: the folders around all photos, as a prefix of every name; "" if there are none.
        sizes: each photo's size in bytes, by name.
    """

    path: Path
    around: str
    sizes: Mapping[str, int] = field(repr=False)

    def check(self, photos: Sequence[str]) -> None:
        """Raise `ImageError` unless all these photos are here."""
        missing = [photo for photo in photos if photo not in self.sizes]
        if missing:
            raise ImageError(f"{self.path}: expected every photo of the pairs, found no {missing[0]}")

    @contextmanager
    def folder(self, photos: Sequence[str]) -> Iterator[Path]:
        """Give a folder in which these photos lie under their names; for a tar file, a temporary folder.

        Raises:
            ImageError: the tar file cannot be read, or the photos are too large.
        """
        if self.path.is_dir():
            yield self.path / self.around
            return
        wanted = {self.around + photo for photo in photos}
        with temporary_folder() as temporary:
            with _reading(self.path):
                unpack(self.path, wanted, temporary)
            yield temporary / self.around


def open_photos(path: Path) -> PhotoSource:
    """List the photos in a folder or tar file.

    Raises:
        ImageError: the path is neither, or has no photos.
    """
    with _reading(path):
        if path.is_dir():
            found = {file.relative_to(path).as_posix(): status.st_size for file, status in files_below(path)}
        else:
            found = sizes_in(path)
    sizes = {name: size for name, size in sorted(found.items()) if PurePosixPath(name).suffix.lower() in SUFFIXES}
    if not sizes:
        raise ImageError(f"{path}: expected photos, found none")
    around = _around(list(sizes))
    return PhotoSource(path, around, {name.removeprefix(around): size for name, size in sizes.items()})


def _around(names: Sequence[str]) -> str:
    """Return the folders that all names begin with, but never a photo's last folder: it is named after a person."""
    depth = 0
    parts = [name.split("/") for name in names]
    while len({part[depth] for part in parts}) == 1 and min(len(part) for part in parts) > depth + 2:
        depth += 1
    return "".join(f"{part}/" for part in parts[0][:depth])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error).partition(":\n")[0]  # tarfile lists what it tried
        raise ImageError(f"{path}: expected a tar file or folder of photos, got {reason}") from error
