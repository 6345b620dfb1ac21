"""Small files that are there whole or not at all, whatever crashes when, and whoever else writes the same one."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["PART", "sync_folder", "write_durably"]

PART = ".part"
"""How the name of a file ends while it is written; a crash may leave one."""


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file, for its owner alone, and see it reach the disk under its name.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """See what was made, renamed or removed in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
