"""Folders and files that options name: caches, prepared runs, and what a measurement is written to."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hybridface.errors import ImageError, escaped
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
    """Return the folder of `cache_path`, made if need be; if it cannot be made, warn and return None: keep nothing."""
    folder = cache_path(cache)
    if folder is None:
        return None
    try:
        make_folder(folder)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        say_warning(f"no cache in {folder}: {error.strerror}; pass --cache with another folder or none")
        return None
    return folder


def key_path(key: Path | None) -> Path:
    """Return the file of the client's key that `--key` names, or the usual one."""
    return key or configuration_directory() / "gallery.key"


def prepared_path(prepared: str, server: str = "") -> Path | None:
    """Return the folder of prepared runs that `--prepared` names; None for "none".

    Args:
        server: another organisation's, whose runs are in a folder of their own; "" for those of this machine.
    """
    if prepared == "none":
        return None
    folder = Path(prepared).expanduser() if prepared else data_directory() / "prepared"
    return folder / "servers" / server if server else folder


def existing_prepared_path(prepared: str, server: str = "") -> Path | None:
    """Return the folder of `prepared_path` if it exists, else None."""
    folder = prepared_path(prepared, server)
    return folder if folder and folder.exists() else None


@contextmanager
def faces_cache(cache: str, name: str) -> Iterator[Path]:
    """Give the folder `name` in the cache that `--cache` names; for "none", a temporary folder."""
    folder = cache_path(cache)
    if folder is not None:
        yield folder / name
        return
    with temporary_folder() as temporary:
        yield temporary


def check_photos(photos: Sequence[Path]) -> None:
    """Raise `ImageError` for the first photo that does not exist; reading it later shows whether it is a photo."""
    for photo in photos:
        if str(photo) != _STANDARD_INPUT and not photo.exists():
            raise ImageError(f"{photo}: expected a photo, found no such file")


def say_warning(text: str) -> None:
    """Print a warning to the user on one line."""
    sys.stderr.write(f"hybridface: {escaped(text)}\n")


def check_writable(path: Path) -> None:
    """Raise `ParameterError` for a file that cannot be written: now, not after a long measurement."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, PUBLIC))
    except OSError as error:
        raise ParameterError(f"expected a file to write to, got {path}: {error.strerror}") from error
