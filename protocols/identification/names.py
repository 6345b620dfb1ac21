"""The name of whoever was found in a list that the server keeps: the client learns one name, the server not which.

The server draws a key K_i of 128 bits for each name and sends all names sealed (AES-256-GCM under a key derived from
K_i), once a session. For a lookup the client has a one-hot vector (zeros, if nobody was found), and both compute K^T
one-hot as a matrix product on shares (Beaver, CRYPTO 1991), opened to the client. The server sees uniform numbers; the
client sees K_i, uniform, and opens one name; the others stay sealed. Names are padded to one length, a power of two.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.channel import Channel
from protocols.correlations import ArithmeticTriple, Request
from protocols.errors import ParameterError, ProtocolError
from protocols.mpc import CLIENT, MpcParty, arithmetic, to_ring
from protocols.randomness import random_words
from protocols.ring import RingArray

__all__ = ["SealedNames", "look_up", "lookup_requests", "open_name", "seal_names"]

_WORDS, _NONCE, _TAG, _MAX_BYTES = 2, bytes(12), 16, 1 << 16
_LABEL = "identification/name key"

SealedNames = NDArray[np.uint8]
"""(n, bytes): padded names with their tags."""


def seal_names(names: Sequence[str]) -> tuple[SealedNames, RingArray]:
    """Return the sealed names, and their keys, uint64 (n, 2): the server's secret."""
    encoded = [name.encode() for name in names]
    longest = max(map(len, encoded), default=0)
    if longest + 1 > _MAX_BYTES:
        raise ParameterError(f"expected names of at most {_MAX_BYTES - 1} bytes, got {longest}")
    size = 1 << longest.bit_length()
    keys = random_words(_WORDS * len(names)).reshape(-1, _WORDS)
    sealed = np.empty((len(names), size + _TAG), dtype=np.uint8)
    for row, key, name in zip(sealed, keys, encoded, strict=True):
        padded = (name + b"\x80").ljust(size, b"\0")
        row[:] = np.frombuffer(_cipher(key).encrypt(_NONCE, padded, None), dtype=np.uint8)
    return sealed, keys


def open_name(sealed: SealedNames, index: int, key: RingArray) -> str:
    """Return a name, on the client.

    Raises:
        ProtocolError: the key does not fit, or what it opens is no name.
    """
    try:
        padded = _cipher(key).decrypt(_NONCE, sealed[index].tobytes(), None)
        return padded.rstrip(b"\0").removesuffix(b"\x80").decode()
    except (InvalidTag, UnicodeDecodeError) as error:
        raise ProtocolError(f"expected the sealed name of index {index}, got something else") from error


def lookup_requests(count: int, lookups: int = 1) -> list[Request]:
    """Return the correlations that so many lookups among so many names use up."""
    return [ArithmeticTriple("matmul", (_WORDS, count), (count, lookups))]


def look_up(
    party: MpcParty,
    count: int,
    lookups: int = 1,
    indices: Sequence[int | None] | None = None,
    keys: RingArray | None = None,
) -> RingArray | None:
    """Open the keys of some indices to the client: uint64 (lookups, 2), zeros for no index; None to the server.

    Args:
        count: of names. lookups: how many indices.
        indices: the client's; None in place of one if nobody was found.
        keys: the server's, (count, 2).
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


def _cipher(key: RingArray) -> AESGCM:
    """The nonce is constant: a key seals one name."""
    return AESGCM(HKDF(SHA256(), 32, None, b"hybridface sealed name").derive(key.tobytes()))
