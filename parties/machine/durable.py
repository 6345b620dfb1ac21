"""Files that are there whole or not at all, whatever crashes when, and whoever else writes the same one."""

import errno
import os
import secrets
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
"""How the name of a file ends while it is written; a crash may leave one."""

PRIVATE, PUBLIC = 0o600, 0o666
"""Modes of a file: for its owner alone, and as the process's umask lets it be."""

_OF_WRITING = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS
_NO_UNNAMED_FILES = errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL


@contextmanager
def new_file(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Give a file to write, which has its name from the first and is removed after an error; on a clean end it is on
    the disk, the name not yet.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be written.
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
    """Give a file to write, which takes the name when it has reached the disk; after an error nothing has changed.

    Args:
        mode: PRIVATE or PUBLIC.

    Raises:
        OSError: it cannot be written.
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


@contextmanager
def created(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Give a file to write, which takes a name that is free when it has reached the disk.

    Raises:
        FileExistsError: the name is taken, before or by now; that file is as it was.
        OSError: it cannot be written.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with naming(path), _unnamed(_temporary(path), mode) as (file, give_name):
        yield file
        reach_disk(file)
        give_name(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder for its owner alone, and those above it, if there are none, and see them reach the disk.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent)
        with suppress(FileExistsError):  # another process's; or no folder, which whoever uses it finds out
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of which file the system speaks, where a write fails: that it does not say itself."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_WRITING and str(error.filename or PART).endswith(PART):
            error.filename = str(path)
        raise


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")


@contextmanager
def _unnamed(temporary: Path, mode: int) -> Iterator[tuple[BinaryIO, Callable[[Path], None]]]:
    """Give a new file without a name, of which a crash leaves nothing, and what gives it one that is free.

    Where a file system makes no such files, it has a temporary name until then.
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
    """Write a file, for its owner alone, and see it reach the disk under its name.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    with replaced(path) as file:
        file.writelines(contents)


def append_durably(path: Path, content: bytes) -> None:
    """Write behind what a file holds, and see it reach the disk; a crash may leave a part of it.

    Raises:
        OSError: it cannot be written, or there is none.
    """
    with naming(path), open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK), "ab") as file:
        file.write(content)
        reach_disk(file)


def reach_disk(file: BinaryIO) -> None:
    """See what was written to a file reach the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """See what was made, renamed or removed in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
