"""Look up the name of the person found in the server's list. The server does not learn which name it is.

**Sealing.** The server seals names in records of one size. Each record has a key of its own of 128 bits. AES-256-GCM
seals it, under a key that is derived from the record's key and number. The server sends all records once a session.

**Lookup.** The client has a one-hot vector (zeros if nobody was found). Both parties compute K^T one-hot as a matrix
product on shares (Beaver, CRYPTO 1991) and open it to the client. K holds the keys of the names' first records. The
server sees uniform numbers. The client sees one key, which is uniform, and opens one name. The others stay sealed.

**Records.** Record i is the first of name i. Its text is 64 bytes. That is enough for a person's full name in any
script, a UUID, all but very long e-mail addresses, or a SHA-256 in hexadecimal. Such a name costs 81 bytes. A longer
name goes on in further records. Each record before the last gives up 20 bytes of its text for the number and the key of
the next one, and so holds 44 bytes of the name. The further records follow all first ones, in a random order that is
drawn anew with the keys. So the client learns how many further records there are, which bounds the names' total length.
It does not learn which names are long: an unopened record of a long name looks like any other.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import CLIENT, Channel
from protocols.correlations import ArithmeticTriple, Request
from protocols.errors import HiddenError, ParameterError
from protocols.shares.party import MpcParty, arithmetic, to_ring

__all__ = ["SEALED_BYTES", "SealedNames", "look_up", "lookup_requests", "open_name", "seal_names"]

_WORDS, _KEY_BYTES, _NUMBER_BYTES = 2, 16, 4
_NONCE, _TAG_BYTES, _MAX_BYTES = bytes(12), 16, 1 << 16
_TEXT_BYTES = 64
_PART_BYTES = _TEXT_BYTES - _NUMBER_BYTES - _KEY_BYTES
_GOES_ON = 255
_LABEL = "identification/name key"

SEALED_BYTES = 1 + _TEXT_BYTES + _TAG_BYTES
"""Bytes of a sealed record: one for the length of its text, or to say that the name goes on; the text; the tag."""

SealedNames = NDArray[np.uint8]
"""(n + m, SEALED_BYTES): the first records of n names, then m further ones."""


def seal_names(names: Sequence[str]) -> tuple[SealedNames, RingArray]:
    """Return the sealed names, and the keys of their first records, uint64 (n, 2): the server's secret.

    Raises:
        ParameterError: a name is longer than 65,535 bytes, or there are 2^32 records or more.
    """
    parts = [_parts(name.encode()) for name in names]
    total = sum(map(len, parts))
    if total >> (8 * _NUMBER_BYTES):
        raise ParameterError(f"expected names in fewer than 2^{8 * _NUMBER_BYTES} records, got {total}")
    keys = random_words(_WORDS * total).reshape(-1, _WORDS)
    order = np.argsort(random_words(total - len(names)), kind="stable")
    places = iter((len(names) + order).tolist())
    sealed = np.empty((total, SEALED_BYTES), dtype=np.uint8)
    for first, (*long, last) in enumerate(parts):
        number = first
        for part in long:
            following = next(places)
            link = following.to_bytes(_NUMBER_BYTES, "little") + keys[following].tobytes()
            sealed[number] = _seal(keys[number], number, _GOES_ON, link + part)
            number = following
        sealed[number] = _seal(keys[number], number, len(last), last)
    return sealed, keys[: len(names)].copy()


def open_name(sealed: SealedNames, index: int, key: RingArray) -> str:
    """Return a name, on the client.

    Raises:
        HiddenError: the key does not fit, or the opened records hold no name.
    """
    number, text = index, bytearray()
    try:
        while len(text) < _MAX_BYTES:
            size, content = _open(key, number, sealed[number])
            if size <= _TEXT_BYTES:
                return (text + content[:size]).decode()
            if size != _GOES_ON:
                break
            number = int.from_bytes(content[:_NUMBER_BYTES], "little")
            key = np.frombuffer(content, np.uint64, _WORDS, _NUMBER_BYTES)
            text += content[-_PART_BYTES:]
    except (InvalidTag, UnicodeDecodeError, IndexError) as error:
        raise HiddenError("expected the found person's sealed name, got something else") from error
    raise HiddenError("expected the found person's sealed name, got something else")


def lookup_requests(count: int, lookups: int = 1) -> list[Request]:
    """Return the correlations that `lookups` lookups among `count` names use up."""
    return [ArithmeticTriple("matmul", (_WORDS, count), (count, lookups))]


def look_up(
    party: MpcParty,
    count: int,
    lookups: int = 1,
    indices: Sequence[int | None] | None = None,
    keys: RingArray | None = None,
) -> RingArray | None:
    """Open the keys of some indices to the client.

    Args:
        count: how many names there are. lookups: how many indices.
        indices: the client's, with None where nobody was found.
        keys: the server's, (count, 2).

    Returns:
        The keys on the client, uint64 (lookups, 2), with zeros where there is no index; None on the server.
    """
    matrix, vectors = np.zeros((_WORDS, count), dtype=np.uint64), np.zeros((count, lookups), dtype=np.uint64)
    if keys is not None:
        matrix[:] = keys.T
    for lookup, index in enumerate(indices or ()):
        if index is not None:
            vectors[index, lookup] = 1
    share = to_ring(arithmetic(matrix).matmul(arithmetic(vectors)).share)
    return _open_to_client(party.channel, party.rank, np.ascontiguousarray(share.T))


def _open_to_client(channel: Channel, rank: int, share: RingArray) -> RingArray | None:
    if rank != CLIENT:
        channel.send(_LABEL, share)
        return None
    return share + channel.receive(_LABEL, np.uint64, share.shape)


def _parts(name: bytes) -> list[bytes]:
    """Cut a name into the parts for its first record, its second one, and so on. Only the last may be short."""
    if len(name) >= _MAX_BYTES:
        raise ParameterError(f"expected names of at most {_MAX_BYTES - 1} bytes, got {len(name)}")
    parts = []
    while len(name) > _TEXT_BYTES:
        parts.append(name[:_PART_BYTES])
        name = name[_PART_BYTES:]
    return [*parts, name]


def _seal(key: RingArray, number: int, head: int, content: bytes) -> NDArray[np.uint8]:
    record = bytes([head]) + content.ljust(_TEXT_BYTES, b"\0")
    return np.frombuffer(_cipher(key, number).encrypt(_NONCE, record, None), dtype=np.uint8)


def _open(key: RingArray, number: int, record: NDArray[np.uint8]) -> tuple[int, bytes]:
    opened = _cipher(key, number).decrypt(_NONCE, record.tobytes(), None)
    return opened[0], opened[1:]


def _cipher(key: RingArray, number: int) -> AESGCM:
    """Return the cipher of one record.

    The nonce is constant, since a key seals only one record. The record's number goes into the key, so that somebody
    can try a guess of a key on one record only.
    """
    information = b"hybridface sealed name" + number.to_bytes(8, "little")
    return AESGCM(HKDF(SHA256(), 32, None, information).derive(key.tobytes()))
