"""Keep a secret of 32 random bytes in a file of its own, beside the file that it protects.

The secret is for its owner alone, and is drawn when it is first needed. Somebody who gets only the other file, in a
backup or as a copy, does not have the secret.
"""

import secrets
from pathlib import Path

from parties.machine.durable import created
from parties.machine.plain_files import open_plain

__all__ = ["SECRET_BYTES", "keep_secret", "read_secret", "secret_of"]

SECRET_BYTES = 32


def secret_of(path: Path) -> bytes:
    """Return a file's secret. If there is no file, draw a secret and write it durably.

    Raises:
        OSError: the file can be neither read nor made.
        ValueError: the file holds no secret.
    """
    try:
        return read_secret(path)
    except FileNotFoundError:
        return keep_secret(path, secrets.token_bytes(SECRET_BYTES))


def read_secret(path: Path) -> bytes:
    """Return a file's secret.

    Raises:
        OSError: the file cannot be read, or is no plain file.
        ValueError: the file does not have 32 bytes, or they are all the same.
    """
    with open_plain(path) as file:
        secret = file.read(SECRET_BYTES + 1)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"expected a file of {SECRET_BYTES} bytes")
    if len(set(secret)) == 1:
        raise ValueError(f"expected {SECRET_BYTES} random bytes")
    return secret


def keep_secret(path: Path, secret: bytes) -> bytes:
    """Write a secret to a new file, and return the file's secret: another process's, if that process was quicker.

    Raises:
        OSError: the file cannot be written.
        ValueError: there is a file already, and it holds no secret.
    """
    try:
        with created(path) as file:
            file.write(secret)
    except FileExistsError:
        return read_secret(path)
    return secret
