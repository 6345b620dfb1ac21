"""Keep the key that hashes names in the log, in a file of its own beside the gallery.

**Why another file.** The gallery's file alone must not say who was asked about. Names are few enough to guess: a
person with a hash and its key can try a list of names. The gallery shows who is enrolled anyway. But the log also has
names that were asked about and are not enrolled, or were removed. Without the key their hashes are a PRF's outputs. So
a copy of the gallery's file, such as a backup, keeps these names secret. A person who takes the key's file
as well can guess them.

**A lost or replaced key.** The gallery's file holds a check of the key, a PRF's output. By the check, a process notices
that the key was lost or replaced. Then the hashes in the log mean nothing any more, and the process removes all of
them. The limits on queries about single people begin anew. Another process may have drawn a new key at any time. So a
process compares the check in every transaction in which it hashes a name.

**Older versions** had the key in the gallery's file. It is moved out when the gallery is next opened for writing.
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
    """Return the path of the key of a gallery's log."""
    return gallery.with_name(f"{gallery.name}.logkey")


def identity_tag(secret: bytes, identity: bytes) -> bytes:
    """Return the hash that stands for an identity in buckets and log: 16 bytes, keyed by the log's secret."""
    return hashlib.blake2b(identity, key=secret, digest_size=16).digest()


def log_secret(gallery: Path) -> bytes:
    """Return the key of a gallery's log; draw it if there is none.

    Raises:
        StoreError: the key can be neither read nor made, or is damaged.
    """
    path = secret_path(gallery)
    with _telling(path):
        return secret_of(path)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Raise errors of the key's file as a StoreError that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path.name}: cannot use the log's key: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(
            f"{path.name}: cannot use the log's key: {error}; restore it, or remove it: then the log forgets its names"
        ) from error


def adopt_log_secret(database: "Database", known: bytes | None = None) -> bytes:
    """Return the key of an open gallery's log. If the key has changed, forget all hashes under the old one.

    The caller has begun a transaction. For a gallery that is open read-only, this makes no key and forgets nothing.

    Args:
        known: the key that the caller used last. It is still the right one unless another process has changed it.

    Raises:
        StoreError: as for `log_secret`; or the gallery is open read-only, and the key is missing or another one.
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
    """Return the key of a gallery that is open read-only, and write nothing.

    Older versions have the key in the gallery's file. A gallery that has never hashed a name has no check. It holds no
    hash under any key, so a random key will do.
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
    """Move the key out of an older version's file. The caller has begun a transaction.

    Raises:
        OSError, ValueError: the key's file can be neither made nor read. The caller rolls back.
    """
    found = connection.execute("SELECT salt FROM state").fetchone()
    match found:
        case (bytes(salt),) if len(salt) == SECRET_BYTES:
            keep_secret(secret_path(gallery), salt)
            connection.execute("UPDATE state SET salt = ?", (_check(salt),))


def _check(secret: bytes) -> bytes:
    return hashlib.blake2b(b"", key=secret, person=_CHECK, digest_size=16).digest()
