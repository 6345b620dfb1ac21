"""Define what a store holds: entries, their shares as bytes, and the rules for identities.

An identity is any Unicode string of 1 to 10,000 characters. The store compares identities character by character. It
does not fold, trim or normalise them, since the client's key stream depends on the exact string. Callers that enrol
bring names to one form first (see `identities`). The store holds identities as UTF-8 bytes, not as SQLite's text:
SQLite's comparisons of text are undefined after a NUL character.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import StoreError
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError

__all__ = [
    "MAX_IDENTITY",
    "Changes",
    "Entry",
    "checksum",
    "identity_bytes",
    "identity_text",
    "share_array",
    "share_bytes",
]

MAX_IDENTITY = 10_000
"""Largest number of characters of an identity."""


@dataclass(frozen=True)
class Entry:
    """One photo's place in a store.

    Args:
        row: number of the photo in the store, from 1. It is never used again, even after the photo's removal.
        identity: whose photo it is.
        photo: number of the photo among this identity's photos, from 1, not always consecutive; never used again.
        generation: of the client's key under which the share was made.
    """

    row: int
    identity: str
    photo: int
    generation: int


@dataclass(frozen=True)
class Changes:
    """The changes of a store since an earlier change of it.

    Args:
        number: of the last change; pass it the next time.
        added: int64 (n,), rows that were added since and are still there, ascending.
        removed: int64 (m,), rows that were there after the earlier change and are gone now, ascending.
        generation: of the key, now.
    """

    number: int
    added: NDArray[np.int64]
    removed: NDArray[np.int64]
    generation: int


def identity_bytes(identity: str) -> bytes:
    """Return an identity as UTF-8.

    Raises:
        ParameterError: it is empty or too long, or has a lone surrogate, which is not a character.
    """
    if not isinstance(identity, str) or not 0 < len(identity) <= MAX_IDENTITY:
        got = f"{len(identity)}" if isinstance(identity, str) else type(identity).__name__
        raise ParameterError(f"expected an identity of 1 to {MAX_IDENTITY} characters, got {got}")
    try:
        return identity.encode()
    except UnicodeEncodeError as error:
        raise ParameterError("expected an identity of Unicode characters, got one with a lone surrogate") from error


def identity_text(raw: object) -> str:
    """Return an identity from the bytes in a store.

    Raises:
        StoreError: the bytes are damaged.
    """
    try:
        if not isinstance(raw, bytes):
            raise ValueError("not bytes")
        return raw.decode()
    except ValueError as error:
        raise StoreError("expected an identity in UTF-8, got other bytes: the store is damaged") from error


def share_bytes(share: RingArray, dimension: int) -> bytes:
    """Return a share, uint64 (d,), as 8 d bytes, little endian.

    Raises:
        ParameterError: the share has another type or shape.
    """
    if not isinstance(share, np.ndarray) or share.dtype != np.uint64 or share.shape != (dimension,):
        got = f"{share.dtype} {share.shape}" if isinstance(share, np.ndarray) else type(share).__name__
        raise ParameterError(f"expected a share of uint64 ({dimension},), got {got}")
    return share.astype("<u8", copy=False).tobytes()


def share_array(parts: Iterable[bytes], dimension: int) -> RingArray:
    """Return shares as uint64 (n, d), from the bytes of each; a writeable copy."""
    return np.frombuffer(bytearray().join(parts), dtype="<u8").astype(np.uint64, copy=False).reshape(-1, dimension)


def checksum(scope: bytes, entry: Entry, identity: bytes, share: bytes) -> int:
    """Return the CRC-32 of a gallery's scope, an entry and its share. It detects damage, not malice."""
    numbers = b"%d %d %d " % (entry.row, entry.photo, entry.generation)
    return zlib.crc32(share, zlib.crc32(scope + numbers + identity))
