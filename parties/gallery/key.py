"""Read, create and use the client's key: 32 bytes in a file. The client recomputes its shares of all templates from it.

**Derivation.** A share is the output of a pseudorandom function of the key on (gallery, identity, photo, generation).
HMAC-SHA-256 under the key, of an encoding that no two inputs share, gives an AES-256 key. AES-256 in counter mode,
from zero, gives the share. So every template has a stream of its own, and no nonces or counters can meet. Only a
collision of HMAC-SHA-256 could make two streams equal (2^-193 for 2^32 templates).

**Rejected alternative.** One AES key for all templates, with a hash as each one's first counter block, would take half
the time. With 2^32 templates of 128 numbers its bounds are near 2^-53 (2^38 blocks under one key).

**Loss and theft.** A person with both the file and the store has the templates. Without the file nobody can recover
them. The file is raw: all of its bytes are the key.
"""

import hmac
import os
import secrets
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from parties.gallery.errors import KeyFileError, KeyFileWarning
from parties.gallery.store.records import Entry, identity_bytes
from parties.machine.durable import created
from parties.machine.plain_files import open_plain
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import KEY_BYTES, keystream
from protocols.errors import ParameterError

__all__ = ["GalleryKey", "create_key", "read_key"]

SCOPE_BYTES = 16
_SHARE, _MASK = b"hybridface gallery share 1\n", b"hybridface gallery mask 1\n"
_CHECK = b"hybridface gallery check 1\n"
_FIRST_COUNTER = bytes(16)
_NUMBERS = 1 << 64


@dataclass(frozen=True)
class GalleryKey:
    """A key. One key is enough for several galleries: everything derived from it depends on the gallery's scope.

    Args:
        secret: 32 uniform bytes.

    Raises:
        ParameterError: the secret has another length.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ParameterError(f"expected a key of {KEY_BYTES} bytes, got {len(self.secret)}")

    def share_of(self, scope: bytes, identity: str, photo: int, generation: int, dimension: int) -> RingArray:
        """Return the client's share of a template, uint64 (d,).

        Args:
            scope: of the gallery, 16 bytes.
            identity, photo, generation: of the entry, as the store numbers it. No two templates may have all three
                the same.
            dimension: of the template.

        Raises:
            ParameterError: an argument is out of range.
        """
        raw = identity_bytes(identity)
        if len(scope) != SCOPE_BYTES or not (0 <= photo < _NUMBERS and 0 <= generation < _NUMBERS and dimension > 0):
            raise ParameterError(
                f"expected a scope of {SCOPE_BYTES} bytes, numbers of 64 bits and a dimension above 0,"
                f" got {len(scope)}, {photo}, {generation} and {dimension}"
            )
        numbers = b"".join(number.to_bytes(8, "little") for number in (photo, generation, dimension))
        derived = hmac.digest(
            self.secret, _SHARE + scope + numbers + raw, "sha256"
        )  # only the last has no fixed length
        return keystream(derived, _FIRST_COUNTER, dimension)

    def shares_of(self, scope: bytes, entries: Iterable[Entry], dimension: int) -> RingArray:
        """Return the client's shares of n templates, uint64 (n, d): see `share_of`."""
        listed = list(entries)
        shares = np.empty((len(listed), dimension), dtype=np.uint64)
        for share, entry in zip(shares, listed, strict=True):
            share[:] = self.share_of(scope, entry.identity, entry.photo, entry.generation, dimension)
        return shares

    def check(self, scope: bytes, generation: int) -> str:
        """Return 32 hexadecimal digits by which a server recognises the gallery's key. They reveal nothing about it.

        Args:
            scope: of the gallery, 16 bytes.
            generation: of the key.
        """
        if len(scope) != SCOPE_BYTES or not 0 <= generation < _NUMBERS:
            raise ParameterError(f"expected a scope of {SCOPE_BYTES} bytes and a generation, got {len(scope)}")
        return hmac.digest(self.secret, _CHECK + scope + generation.to_bytes(8, "little"), "sha256")[:16].hex()

    def mask_seed(self, scope: bytes) -> bytes:
        """Return 32 bytes for the masks of a gallery's rows, independent of all shares.

        Args:
            scope: of the gallery, 16 bytes.
        """
        if len(scope) != SCOPE_BYTES:
            raise ParameterError(f"expected a scope of {SCOPE_BYTES} bytes, got {len(scope)}")
        return hmac.digest(self.secret, _MASK + scope, "sha256")


def create_key(path: Path) -> GalleryKey:
    """Draw a key and write it to a new file that only its owner may read.

    Raises:
        KeyFileError: the file exists, or cannot be written.
    """
    key = GalleryKey(secrets.token_bytes(KEY_BYTES))
    try:
        with created(path) as file:
            file.write(key.secret)
    except FileExistsError as error:
        raise KeyFileError(f"{path.name}: expected a new key file, got one that exists") from error
    except OSError as error:
        raise KeyFileError(f"{path.name}: cannot write the key file: {error.strerror}") from error
    return key


def read_key(path: Path) -> GalleryKey:
    """Read a key file; warn (`KeyFileWarning`) if users other than its owner may read it.

    Raises:
        KeyFileError: the file cannot be read, or it holds no key.
    """
    try:
        with open_plain(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            secret = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path.name}: cannot read the key file: {error.strerror}") from error
    if len(secret) != KEY_BYTES:
        raise KeyFileError(f"{path.name}: expected a key file of {KEY_BYTES} bytes, got another file")
    if len(set(secret)) == 1:
        raise KeyFileError(f"{path.name}: expected {KEY_BYTES} random bytes, got a file that was cut or overwritten")
    if mode & 0o077:
        warnings.warn(
            f"{path.name}: other users may read this key (mode {mode:04o}); chmod 600 it",
            KeyFileWarning,
            stacklevel=2,
        )
    return GalleryKey(secret)
