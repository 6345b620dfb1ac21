"""Lock files between the processes of one machine, for one writer or many readers. A lock ends with its process."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK_SECONDS", "FileLock", "locked"]

LOCK_SECONDS = 60.0
_NO_FILE = errno.ELOOP, errno.ENXIO
_FIRST_SLEEP, _LONGEST_SLEEP = 0.001, 0.25


class FileLock:
    """The lock of a folder or a file, held alone or shared with others. A missing file is made.

    Args:
        path: the folder, or the file, which must not be a link.
        what: what is locked, for the error message.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._what = what
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if error.errno in _NO_FILE:
                error.strerror = "expected a file to lock, got a symbolic link or a socket"
            raise

    def try_take(self, shared: bool = False) -> bool:
        """Take the lock, or change how it is held, without waiting. Return whether that succeeded.

        If it did not succeed, the lock is not held any more: the system gives it up before it takes it in another way.
        """
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self, shared: bool = False, seconds: float = LOCK_SECONDS) -> None:
        """Take the lock, or change how it is held, as soon as it is free.

        Raises:
            TimeoutError: the lock was not free in time. The process that holds it may have been stopped.
        """
        deadline, pause = time.monotonic() + seconds, _FIRST_SLEEP
        while not self.try_take(shared):
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected the lock of {self._what} within {seconds:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_SLEEP)

    def close(self) -> None:
        """Give up the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def locked(path: Path, what: str, shared: bool = False, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of a folder or a file during a block. A missing file is made.

    Args:
        what: what is locked, for the error message.
        shared: whether others may hold the lock shared at the same time.
        seconds: how long to wait for the lock; LOCK_SECONDS by default.

    Raises:
        TimeoutError: the lock was not free in time. The process that holds it may have been stopped.
        OSError: the file cannot be opened.
    """
    lock = FileLock(path, what)
    try:
        lock.take(shared, LOCK_SECONDS if seconds is None else seconds)
        yield
    finally:
        lock.close()
