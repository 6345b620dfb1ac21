"""Extend 127 base transfers to any number of correlated transfers, 16 bytes each (IKNP).

Source: Ishai, Kilian, Nissim, Petrank, CRYPTO 2003, for semi-honest parties, in the correlated form of Asharov,
Lindell, Schneider, Zohner, CCS 2013.

Neither side puts in anything.

- The sender gets Delta and a block q_i for each transfer. Delta has 128 bits, uniform except for its low bit, which
  is 1. The blocks q_i are uniform except for their low bit, which is 0.
- The receiver gets w_i = q_i ^ c_i Delta for uniform choice bits c_i. The low bit of w_i is c_i.

In the base transfers the sender is the *receiver*, with the bits of Delta as choices. So it has k_{r,Delta_r} of every
pair of keys (k_{r,0}, k_{r,1}), r = 1 .. 127. G expands a key to as many bits as there are transfers. By rows of bits:

    receiver   u_r = G(k_{r,0}) ^ G(k_{r,1}) ^ c   -> sender
    receiver   w_r = G(k_{r,0}),                w_0 = c
    sender     q_r = G(k_{r,Delta_r}) ^ Delta_r u_r,   q_0 = 0

So w_r = q_r ^ Delta_r c in every row. The transposed matrix has one block for each transfer. Row 0 needs no transfer,
because bit 0 of Delta is known to be 1.

What each side sees: the receiver sees nothing after the base transfers. The sender sees u_r. One of its two expansions
comes from a key that the sender does not have, so u_r looks uniform to it. Security rests on the base transfers, and on
AES-256 in counter mode as a pseudorandom generator. Every key expands one stream, which continues from one extension to
the next.

The receiver may be up to 8 extensions (8 MB) ahead of the sender. Then it waits for a receipt.

Semi-honest parties only: a receiver that lies about c in some rows learns bits of Delta, and nobody notices.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from protocols.arithmetic.randomness import random_words
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.transfers import kernels
from protocols.transfers.base import receive_base_transfers, send_base_transfers
from protocols.transfers.hashing import Blocks

__all__ = ["IKNP_BATCH", "IknpReceiver", "IknpSender"]

IKNP_BATCH = 1 << 16
"""The most transfers of one extension: its matrix takes 1 MiB."""

_RECEIPT_EVERY = 8
_ROWS = 128
_AES_BYTES = 16
_ZEROS = bytes(IKNP_BATCH // 8)

Rows = NDArray[np.uint64]


class IknpSender:
    """The sender's side. Its constructor makes the base transfers.

    Args:
        label: the session's name, the same on both sides.

    Attributes:
        delta: (2,) words, a secret of this side.
        session: 32 bytes, public, the same on both sides.

    Raises:
        ProtocolError: a message of the peer is malformed.
    """

    def __init__(self, channel: Channel, label: str) -> None:
        self._channel, self._label = channel, label
        self.delta = random_words(2) | np.array([1, 0], dtype=np.uint64)
        choices = _bits_of(self.delta)[1:]
        keys, self.session = receive_base_transfers(channel, label, choices)
        self._masks = (np.uint64(0) - choices.astype(np.uint64))[:, np.newaxis]
        self._streams = _Streams(keys)
        self._extensions = 0

    def extend(self, wanted: int) -> Blocks:
        """Make `wanted` transfers, rounded up to a multiple of 64, but at most IKNP_BATCH.

        Returns:
            The blocks q, uint64 (count, 2).
        """
        words = _words(wanted)
        self._extensions += 1
        label = f"{self._label}/extension {self._extensions}"
        corrections = self._channel.receive(label, np.uint64, (_ROWS - 1, words))
        if self._extensions % _RECEIPT_EVERY == 0:
            self._channel.send(f"{label} received", np.empty(0, dtype=np.uint8))
        rows = self._streams.rows(words, above=1)
        rows[0] = 0
        corrections &= self._masks
        rows[1:] ^= corrections
        return _transposed(rows)


class IknpReceiver:
    """The receiver's side. Its constructor makes the base transfers.

    Args:
        label: the session's name, the same on both sides.

    Attributes:
        session: 32 bytes, public, the same on both sides.

    Raises:
        ProtocolError: a message of the peer is malformed.
    """

    def __init__(self, channel: Channel, label: str) -> None:
        self._channel, self._label = channel, label
        keys, self.session = send_base_transfers(channel, label, _ROWS - 1)
        self._streams = _Streams(keys[:, 0]), _Streams(keys[:, 1])
        self._extensions = 0

    def extend(self, wanted: int) -> Blocks:
        """Make `wanted` transfers, rounded up to a multiple of 64, but at most IKNP_BATCH.

        Returns:
            The blocks w, uint64 (count, 2), with the choices in their low bits.
        """
        words = _words(wanted)
        rows, corrections = self._streams[0].rows(words, above=1), self._streams[1].rows(words)
        rows[0] = random_words(words)
        corrections ^= rows[1:]
        corrections ^= rows[0]
        self._extensions += 1
        label = f"{self._label}/extension {self._extensions}"
        self._channel.send(label, corrections)
        if self._extensions % _RECEIPT_EVERY == 0:
            self._channel.receive(f"{label} received", np.uint8, (0,))
        return _transposed(rows)


class _Streams:
    """The generators G of some keys, (count, 32). Each continues where it stopped."""

    def __init__(self, keys: NDArray[np.uint8]) -> None:
        self._streams: list[CipherContext] = [
            Cipher(algorithms.AES(key.tobytes()), modes.CTR(bytes(_AES_BYTES))).encryptor() for key in keys
        ]

    def rows(self, words: int, above: int = 0) -> Rows:
        """Return rows (above + count, words): `above` uninitialised ones, then the next bits of every stream."""
        size, count = 8 * words, above + len(self._streams)
        buffer = np.empty(count * words + _AES_BYTES // 8, dtype=np.uint64)  # AES requires room for one more block
        view = buffer.data.cast("B")
        for i, stream in enumerate(self._streams, start=above):
            stream.update_into(_ZEROS[:size], view[i * size : (i + 1) * size + _AES_BYTES])
        return buffer[: count * words].reshape(count, words)


def _words(wanted: int) -> int:
    if wanted < 1:
        raise ParameterError(f"expected at least one transfer, got {wanted}")
    return min(-(-wanted // 64), IKNP_BATCH // 64)


def _bits_of(block: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.unpackbits(block.view(np.uint8), bitorder="little")


def _transposed(rows: Rows) -> Blocks:
    out = np.empty((64 * rows.shape[1], 2), dtype=np.uint64)
    kernels.transpose(rows, out)
    return out
