"""Walk through folders while other processes may remove their files, or the folders themselves."""

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["changed_at", "entries_of", "files_below", "size_of"]

_GONE = FileNotFoundError, NotADirectoryError


def entries_of(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name; nothing if the folder is gone, or is no folder.

    Raises:
        OSError: the folder may not be read.
    """
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except _GONE:
        return []


def files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files in a folder and its subfolders, sorted by name. Skip files that are removed meanwhile.

    Raises:
        OSError: a folder may not be read.
    """
    for path in entries_of(folder):
        if path.is_dir():
            if not path.is_symlink():
                yield from files_below(path)
        elif path.is_file():
            status = _status(path)
            if status is not None:
                yield path, status


def changed_at(path: Path) -> float:
    """Return when a file was changed, in seconds since 1970; 0 if the file is gone."""
    status = _status(path)
    return 0.0 if status is None else status.st_mtime_ns / 1e9


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 if the file is gone."""
    status = _status(path)
    return 0 if status is None else status.st_size


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except _GONE:
        return None
