"""Find the photos in a folder, and all other files, each with the reason why it is not used.

A file counts as a photo by its name, or by its first bytes if the name does not say. Whether the photo can be used
shows only when it is read. Links to files are followed; links to folders are not, so the search cannot go in circles.
Only regular files are opened.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hybridface.faces.formats import HEAD_BYTES, SUFFIXES, TAIL_BYTES, UNREAD_SUFFIXES, known_format
from parties.machine.plain_files import open_plain

__all__ = ["Kind", "Unused", "find_photos"]

_SYSTEM_FILES = "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"
_SYSTEM_FOLDERS = "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"


class Kind(StrEnum):
    """Kind of a file that is not used."""

    SYSTEM = "system"
    """A file of the operating system, or a hidden file: nobody misses it."""

    OTHER = "other"
    """No photo, or one that is not wanted."""

    FAULT = "fault"
    """A photo, or a folder of photos, that the user perhaps wanted to enrol."""


@dataclass(frozen=True)
class Unused:
    """A file, or a whole folder, that is not used.

    Args:
        path: the file or folder.
        kind: its kind.
        reason: why it is not used.
    """

    path: Path
    kind: Kind
    reason: str


def find_photos(folder: Path) -> tuple[list[Path], list[Unused]]:
    """Return the photos in a folder and its subfolders, sorted, and all other files."""
    photos: list[Path] = []
    unused: list[Unused] = []
    waiting = [folder]
    while waiting:
        for found in _look(waiting.pop()):
            if isinstance(found, Unused):
                unused.append(found)
            elif found.is_dir():
                waiting.append(found)
            else:
                photos.append(found)
    return sorted(photos), sorted(unused, key=lambda one: one.path)


def _look(folder: Path) -> Iterator[Path | Unused]:
    """Yield the content of one folder: photos, folders to look into, and unused files."""
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        yield Unused(folder, Kind.FAULT, f"cannot look into the folder: {error.strerror}")
        return
    for entry in listed:
        yield _judge(Path(entry.path), entry)


def _judge(path: Path, entry: "os.DirEntry[str]") -> Path | Unused:
    """Return the path of a photo or a folder, or the reason why it is not used."""
    if entry.name.startswith(".") or entry.name.lower() in (*_SYSTEM_FILES, *_SYSTEM_FOLDERS):
        return Unused(path, Kind.SYSTEM, "a system's own file, or a hidden one")
    try:
        mode = entry.stat().st_mode
        if stat.S_ISDIR(mode):
            return Unused(path, Kind.FAULT, "a link to a folder, which is not followed") if entry.is_symlink() else path
        if not stat.S_ISREG(mode):
            return Unused(path, Kind.OTHER, f"no file but a {_title(mode)}")
        if _is_photo(path):
            return path
    except FileNotFoundError:
        broken = entry.is_symlink()
        return Unused(path, Kind.FAULT, "a link to nothing" if broken else "removed while the folder was read")
    except OSError as error:
        return Unused(path, Kind.FAULT, f"cannot be read: {error.strerror}")
    return Unused(path, Kind.OTHER, "no photo")


def _title(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _is_photo(path: Path) -> bool:
    """Return whether a file would be read as a photo, or has a name like that of another picture."""
    if path.suffix.lower() in SUFFIXES | UNREAD_SUFFIXES:
        return True
    with open_plain(path) as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        return known_format(path.name, head, file.read(TAIL_BYTES)) is not None
