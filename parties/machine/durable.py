"""Write files that are there complete or not at all, even after a crash or with several writers of one file."""

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "PART",
    "PRIVATE",
    "PUBLIC",
    "append_durably",
    "created",
    "make_folder",
    "naming",
    "new_file",
    "reach_disk",
    "replaced",
    "sync_folder",
    "write_durably",
]

PART = ".part"
"""The end of a file's name while the file is written. A crash may leave such a file, until the file is next written."""

PRIVATE, PUBLIC = 0o600, 0o666
"""Modes of a file: for its owner alone, and for everybody whom the process's umask allows."""

_PART_SECONDS = 3600.0
"""After so long nobody writes a file any more."""

_OF_WRITING = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS
_NO_UNNAMED_FILES = errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL


@contextmanager
def new_file(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Open a new file for writing that has its name from the start, and remove it after an error.

    When the block ends without an error, the content is on the disk, but the name may not be there yet.

    Raises:
        FileExistsError: the name is taken.
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        with naming(path), open(descriptor, "wb") as file:
            yield file
            reach_disk(file)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


@contextmanager
def replaced(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name, free or not, when it is on the disk.

    After an error nothing has changed.

    Args:
        mode: PRIVATE or PUBLIC.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = _temporary(path)
    with naming(path), _unnamed(temporary, mode) as (file, give_name):
        yield file
        reach_disk(file)
        give_name(temporary)
        try:
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    sync_folder(path.parent)
    _remove_left(path)


@contextmanager
def created(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name, which must be free, when it is on the disk.

    Raises:
        FileExistsError: the name was taken before, or is taken by now. The file of that name is unchanged.
        OSError: the file cannot be written.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with naming(path), _unnamed(_temporary(path), mode) as (file, give_name):
        yield file
        reach_disk(file)
        give_name(path)
    sync_folder(path.parent)
    _remove_left(path)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, for their owner alone, and wait until they are on the disk.

    Raises:
        OSError: a folder cannot be made.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent)
        with suppress(FileExistsError):  # another process made it; or it is no folder, and its user will fail
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to the error of a failed write, since the system leaves the name out."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_WRITING and str(error.filename or PART).endswith(PART):
            error.filename = str(path)
        raise


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")


def _remove_left(path: Path) -> None:
    """Remove what crashes have left under temporary names of a file, once nobody can be writing it any more."""
    ours = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{16}}{re.escape(PART)}")
    with suppress(OSError):  # the next file of this name may do it
        for name in filter(ours.fullmatch, os.listdir(path.parent)):
            part = path.with_name(name)
            if time.time() - part.stat().st_mtime > _PART_SECONDS:
                os.unlink(part)


@contextmanager
def _unnamed(temporary: Path, mode: int) -> Iterator[tuple[BinaryIO, Callable[[Path], None]]]:
    """Open a new file without a name, and return it with a function that gives it a free name.

    A crash leaves nothing of a file without a name. If the file system cannot make one, the file has a temporary name
    until it gets its own.
    """
    folder = os.open(temporary.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        descriptor = os.open(temporary.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)
    except OSError as error:
        os.close(folder)
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        with _named(temporary, mode) as named:
            yield named
        return
    try:
        with open(descriptor, "wb") as file:
            # given a folder, os.link calls linkat, which follows the link in /proc to the file itself
            yield file, lambda path: os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=folder)
    finally:
        os.close(folder)


@contextmanager
def _named(temporary: Path, mode: int) -> Iterator[tuple[BinaryIO, Callable[[Path], None]]]:
    def give_name(path: Path) -> None:
        if path != temporary:
            os.link(temporary, path)
            os.unlink(temporary)

    with new_file(temporary, mode) as file:
        yield file, give_name


def write_durably(path: Path, *contents: bytes | memoryview) -> None:
    """Write a file for its owner alone, and wait until it is on the disk under its name.

    Raises:
        OSError: the file cannot be written. An older file of that name is still there.
    """
    with replaced(path) as file:
        file.writelines(contents)


def append_durably(path: Path, content: bytes) -> None:
    """Append to a file, and wait until the content is on the disk. A crash may leave a part of the content.

    Raises:
        OSError: the file cannot be written, or does not exist.
    """
    with naming(path), open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK), "ab") as file:
        file.write(content)
        reach_disk(file)


def reach_disk(file: BinaryIO) -> None:
    """Wait until everything written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until all changes of a folder's names are on the disk: new, renamed and removed files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
