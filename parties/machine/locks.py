"""Locks on files between processes of one machine: held by one writer or many readers, and gone with their process."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK_SECONDS", "locked"]

LOCK_SECONDS = 60.0
_FIRST_SLEEP, _LONGEST_SLEEP = 0.001, 0.25


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
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    limit = LOCK_SECONDS if seconds is None else seconds
    deadline, pause = time.monotonic() + limit, _FIRST_SLEEP
    try:
        while not _try_lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected the lock of {what} within {limit:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_SLEEP)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
