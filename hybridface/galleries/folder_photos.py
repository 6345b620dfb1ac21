"""What lies in a folder: the photos, and every file that is none or cannot be reached, each with the reason.

What is a photo here is told by its name, or by its first bytes if the name does not say; whether it can be used is for
whoever reads it to say. Links to files are followed, links to folders are not, so there is no way round and round.
Nothing but regular files is opened.
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
    """Of a file that is not used."""

    SYSTEM = "system"
    """A system's own file, or a hidden one: nobody misses it."""

    OTHER = "other"
    """No photo, or one that is not wanted."""

    FAULT = "fault"
    """A photo, or a folder of photos, that was meant to be enrolled, perhaps."""


@dataclass(frozen=True)
class Unused:
    """A file, or a whole folder, that is not used.

    Args:
        path: of it.
        kind: of file.
        reason: why.
    """

    path: Path
    kind: Kind
    reason: str


def find_photos(folder: Path) -> tuple[list[Path], list[Unused]]:
    """Return the photos in a folder and in the folders in it, sorted, and what else is there."""
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
    """Yield what lies in one folder: photos, folders to look into, and what is not used."""
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        yield Unused(folder, Kind.FAULT, f"cannot look into the folder: {error.strerror}")
        return
    for entry in listed:
        yield _judge(Path(entry.path), entry)


def _judge(path: Path, entry: "os.DirEntry[str]") -> Path | Unused:
    """Return a photo or a folder, or why it is not used."""
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
    """Return whether a file is one that would be read as a photo, or is named like another picture."""
    if path.suffix.lower() in SUFFIXES | UNREAD_SUFFIXES:
        return True
    with open_plain(path) as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        return known_format(path.name, head, file.read(TAIL_BYTES)) is not None
