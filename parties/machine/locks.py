"""Locks on files between processes of one machine: held by one writer or many readers, and gone with their process."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK_SECONDS", "FileLock", "locked"]

LOCK_SECONDS = 60.0
_FIRST_SLEEP, _LONGEST_SLEEP = 0.001, 0.25


class FileLock:
    """The lock of a folder, or of a file that is made if there is none; held alone, or with others who share it.

    Args:
        path: of the file, which is not a link, or of the folder.
        what: is locked, for the error.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._what = what
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)

    def try_take(self, shared: bool = False) -> bool:
        """Take the lock, or change how it is held, if that can be at once; return whether it is held so now.

        If not, it is not held any more: the system gives it up before it asks for it in another way.
        """
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self, shared: bool = False, seconds: float = LOCK_SECONDS) -> None:
        """Take the lock, or change how it is held, as soon as it is free.

        Raises:
            TimeoutError: it was not free in time; who holds it may have been stopped.
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
    """Hold the lock of a folder, or of a file that is made if there is none.

    Args:
        what: is locked, for the error.
        shared: with others who hold it shared; else alone.
        seconds: to wait for it; LOCK_SECONDS if left out.

    Raises:
        TimeoutError: it was not free in time; who holds it may have been stopped.
        OSError: the file cannot be opened.
    """
    lock = FileLock(path, what)
    try:
        lock.take(shared, LOCK_SECONDS if seconds is None else seconds)
        yield
    finally:
        lock.close()
