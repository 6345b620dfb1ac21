"""A secret of 32 bytes in a file beside what it protects, for its owner alone: drawn when it is first needed.

Whoever gets the other file alone, in a backup or as a copy, has not got the secret.
"""

import secrets
from pathlib import Path

from parties.machine.durable import created
from parties.machine.plain_files import open_plain

__all__ = ["SECRET_BYTES", "keep_secret", "read_secret", "secret_of"]

SECRET_BYTES = 32


def secret_of(path: Path) -> bytes:
    """Return a file's secret; draw one, durably, if there is no file.

    Raises:
        OSError: the file can be neither read nor made. ValueError: it is no secret.
    """
    try:
        return read_secret(path)
    except FileNotFoundError:
        return keep_secret(path, secrets.token_bytes(SECRET_BYTES))


def read_secret(path: Path) -> bytes:
    """Return a file's secret.

    Raises:
        OSError: it cannot be read, or is no plain file. ValueError: it has not 32 bytes, or they are all the same.
    """
    with open_plain(path) as file:
        secret = file.read(SECRET_BYTES + 1)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"expected a file of {SECRET_BYTES} bytes")
    if len(set(secret)) == 1:
        raise ValueError(f"expected {SECRET_BYTES} random bytes")
    return secret


def keep_secret(path: Path, secret: bytes) -> bytes:
    """Write a secret to a new file; return what the file holds, which is another process's if that was quicker.

    Raises:
        OSError: it cannot be written. ValueError: there is a file that is no secret.
    """
    try:
        with created(path) as file:
            file.write(secret)
    except FileExistsError:
        return read_secret(path)
    return secret
