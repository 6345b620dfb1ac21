"""Folders and files that options name: caches, prepared runs, and what a measurement is written to."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hybridface.errors import ImageError, printable
from hybridface.folders import cache_directory, configuration_directory, data_directory, temporary_folder
from parties.machine.durable import PUBLIC, make_folder
from protocols.errors import ParameterError

__all__ = [
    "cache_path",
    "check_photos",
    "check_writable",
    "existing_prepared_path",
    "faces_cache",
    "key_path",
    "prepared_path",
    "say_warning",
    "weights_cache",
]

_STANDARD_INPUT = "-"


def cache_path(cache: str) -> Path | None:
    """Return the cache folder that `--cache` names; None for "none"."""
    if cache == "none":
        return None
    return Path(cache).expanduser() if cache else cache_directory()


def weights_cache(cache: str) -> Path | None:
    """Return that folder; None, and say so, if there is none and it cannot be made: then nothing is kept."""
    folder = cache_path(cache)
    if folder is None:
        return None
    try:
        make_folder(folder)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        say_warning(f"no cache in {folder}: {error.strerror}; name another with --cache, or none")
        return None
    return folder


def key_path(key: Path | None) -> Path:
    """Return the file of the client's key that `--key` names, or the usual one."""
    return key or configuration_directory() / "gallery.key"


def prepared_path(prepared: str) -> Path | None:
    """Return the folder of prepared runs that `--prepared` names; None for "none"."""
    if prepared == "none":
        return None
    return Path(prepared).expanduser() if prepared else data_directory() / "prepared"


def existing_prepared_path(prepared: str) -> Path | None:
    """Return that folder, if anything was ever kept there."""
    folder = prepared_path(prepared)
    return folder if folder and folder.exists() else None


@contextmanager
def faces_cache(cache: str, name: str) -> Iterator[Path]:
    """Give the folder `name` of the cache that `--cache` names; for "none" one that is gone afterwards."""
    folder = cache_path(cache)
    if folder is not None:
        yield folder / name
        return
    with temporary_folder() as temporary:
        yield temporary


def check_photos(photos: Sequence[Path]) -> None:
    """Raise `ImageError` for the first photo that is not there; what it is shows when it is read."""
    for photo in photos:
        if str(photo) != _STANDARD_INPUT and not photo.exists():
            raise ImageError(f"{photo}: expected a photo, found no such file")


def say_warning(text: str) -> None:
    """Tell the user, on one line, that something is odd."""
    sys.stderr.write(f"hybridface: {printable(text)}\n")


def check_writable(path: Path) -> None:
    """Raise `ParameterError` now, rather than after a long measurement."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, PUBLIC))
    except OSError as error:
        raise ParameterError(f"expected a file to write to, got {path}: {error.strerror}") from error
