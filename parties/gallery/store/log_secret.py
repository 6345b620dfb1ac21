"""The key of the log: what names are hashed with, in a file of its own beside the gallery, so that the gallery's file
alone does not say who was asked about.

Names are few enough to guess: whoever has a hash and its key tries a list of names. Who is enrolled can be read in the
gallery anyway; but the log also has names that were asked about and are not enrolled, or were removed. Without the key
their hashes are a PRF's outputs. So a copy of the gallery's file, a backup or an export keeps them; whoever takes the
key's file, too, can guess.

Older versions had the key in the gallery's file; it is moved when the gallery is next opened for writing. In its place
stands a check: a PRF's output, by which a key that was lost or replaced is noticed. Then no hash in the log has a
meaning any more, and all are removed; the limits on queries about single people begin anew. A process that has the
gallery open compares it in every transaction in which it hashes a name, since another may have drawn a new key.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from parties.gallery.errors import StoreError
from parties.machine.secret_file import SECRET_BYTES, keep_secret, read_secret, secret_of

if TYPE_CHECKING:
    from parties.gallery.store.database import Database

__all__ = ["adopt_log_secret", "identity_tag", "log_secret", "move_log_secret", "secret_path"]

_CHECK = b"hfG log key"


def secret_path(gallery: Path) -> Path:
    """Return where the key of a gallery's log lies."""
    return gallery.with_name(f"{gallery.name}.logkey")


def identity_tag(secret: bytes, identity: bytes) -> bytes:
    """Return what stands for an identity among the queries: 16 bytes, keyed by the log's secret."""
    return hashlib.blake2b(identity, key=secret, digest_size=16).digest()


def log_secret(gallery: Path) -> bytes:
    """Return the key of a gallery's log; it is drawn when it is first needed.

    Raises:
        StoreError: it can be neither read nor made, or is damaged.
    """
    path = secret_path(gallery)
    with _telling(path):
        return secret_of(path)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Say of which file it is that the key cannot be used, and what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path.name}: cannot use the log's key: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(
            f"{path.name}: cannot use the log's key: {error}; restore it, or remove it: then the log forgets its names"
        ) from error


def adopt_log_secret(database: "Database", known: bytes | None = None) -> bytes:
    """Return the key of an open gallery's log; if it is another one than before, forget what that has hashed.

    The caller has begun a transaction. Of a gallery that is opened read-only no key is made, and nothing forgotten.

    Args:
        known: the key that the caller used last; it is still the right one if no other process has taken up another.

    Raises:
        StoreError: as for `log_secret`; or the key is missing, or another one, where nothing can be written.
    """
    if database.read_only:
        return _present_secret(database)
    ((kept,),) = database.rows("SELECT salt FROM state")
    if known is not None and kept == _check(known):
        return known
    secret = log_secret(database.path)
    if kept != (check := _check(secret)):
        database.execute("UPDATE state SET salt = ?", (check,))
        forgotten = database.execute("UPDATE query SET tag = NULL WHERE tag IS NOT NULL")
        forgotten += database.execute("DELETE FROM bucket WHERE length(tag) = 16")
        if forgotten:
            database.execute("UPDATE state SET erasing = 1")
    return secret


def _present_secret(database: "Database") -> bytes:
    """Return the key as it is, and make none: an older version has it in the gallery's file.

    A gallery that has never hashed a name has no check. No hash is under any key then, so a random one does.
    """
    ((kept,),) = database.rows("SELECT salt FROM state")
    if kept is None:
        return secrets.token_bytes(SECRET_BYTES)
    if isinstance(kept, bytes) and len(kept) == SECRET_BYTES:
        return kept
    path = secret_path(database.path)
    with _telling(path), suppress(FileNotFoundError):
        if kept == _check(secret := read_secret(path)):
            return secret
    raise StoreError(f"{path.name}: expected the key under which the log's names are hashed, found another one or none")


def move_log_secret(connection: sqlite3.Connection, gallery: Path) -> None:
    """Move the key out of an older version's file; the caller has begun a transaction.

    Raises:
        OSError, ValueError: the key's file can be neither made nor read; the caller rolls back.
    """
    found = connection.execute("SELECT salt FROM state").fetchone()
    match found:
        case (bytes(salt),) if len(salt) == SECRET_BYTES:
            keep_secret(secret_path(gallery), salt)
            connection.execute("UPDATE state SET salt = ?", (_check(salt),))


def _check(secret: bytes) -> bytes:
    return hashlib.blake2b(b"", key=secret, person=_CHECK, digest_size=16).digest()
