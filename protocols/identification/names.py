"""The name of whoever was found in a list that the server keeps: the client learns one name, the server not which.

The server draws a key K_i of 128 bits for each name and sends all names sealed (AES-256-GCM under a key derived from
K_i), once a session. For a lookup the client has a one-hot vector (zeros, if nobody was found), and both compute K^T
one-hot as a matrix product on shares (Beaver, CRYPTO 1991), opened to the client. The server sees uniform numbers; the
client sees K_i, uniform, and opens one name; the others stay sealed. Names are padded to one length, a power of two.
"""

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


def seal_names(names: list[str]) -> tuple[SealedNames, RingArray]:
    """Return the sealed names, and their keys, uint64 (n, 2): the server's secret."""
    encoded = [name.encode() for name in names]
    longest = max(map(len, encoded))
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


def lookup_requests(count: int) -> list[Request]:
    """Return the correlations that one lookup among so many names uses up."""
    return [ArithmeticTriple("matmul", (_WORDS, count), (count, 1))]


def look_up(party: MpcParty, count: int, index: int | None = None, keys: RingArray | None = None) -> RingArray | None:
    """Open the key of an index to the client: uint64 (2,), zeros if there is no index; None to the server.

    Args:
        index: the client's; None if nobody was found.
        keys: the server's, (n, 2).
    """
    matrix, vector = np.zeros((_WORDS, count), dtype=np.uint64), np.zeros((count, 1), dtype=np.uint64)
    if keys is not None:
        matrix[:] = keys.T
    if index is not None:
        vector[index] = 1
    share = to_ring((arithmetic(matrix).matmul(arithmetic(vector))).share).reshape(-1)
    return _open_to_client(party.channel, party.rank, share)


def _open_to_client(channel: Channel, rank: int, share: RingArray) -> RingArray | None:
    if rank != CLIENT:
        channel.send(_LABEL, share)
        return None
    return share + channel.receive(_LABEL, np.uint64, share.shape)


def _cipher(key: RingArray) -> AESGCM:
    """The nonce is constant: a key seals one name."""
    return AESGCM(HKDF(SHA256(), 32, None, b"hybridface sealed name").derive(key.tobytes()))
