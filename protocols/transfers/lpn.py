"""Make long pseudorandom vectors from short ones without interaction: the code of learning parity with noise (LPN).

The code is a public matrix A of bits; each row has weight 10. For a vector v of 2^s blocks, each block of A v is the
exclusive or of ten blocks of v at pseudorandom positions (repeats allowed). Each party applies A to its own share and
sends nothing: the sender to q, the receiver to w = q ^ c Delta. Then A w = A q ^ (A c) Delta.

The assumption (`ferret` has the parameters): A c ^ e looks uniform for a uniform c and an e with few ones. Ferret uses
such a code, with ten ones at random places in each row (Yang, Weng, Lan, Zhang, Wang, CCS 2020, ePrint 2020/924,
section 4.1). The constant weight is that of Alekhnovich's local code.

Positions are 32-bit words of AES-256 in counter mode, under a public seed of the session, modulo 2^s. Row i takes words
10 i to 10 i + 9. `LocalCode` computes positions anew for every use, a run of rows at a time. To store them would take
40 bytes for each row.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.errors import ParameterError
from protocols.transfers import kernels
from protocols.transfers.hashing import Blocks

__all__ = ["ROW_WEIGHT", "LocalCode"]

ROW_WEIGHT = 10

_ROW_BYTES = 4 * ROW_WEIGHT
_RUN = 1 << 12
"""Rows at a time: 160 KiB of positions."""

_ZEROS = bytes(_RUN * _ROW_BYTES)
_AES_BYTES = 16


class LocalCode:
    """The matrix A of one seed.

    Args:
        seed: 32 bytes, public, the same on both sides.
        log_length: s, 1 to 31: vectors have 2^s blocks.

    Raises:
        ParameterError: an argument is out of range.
    """

    def __init__(self, seed: bytes, log_length: int) -> None:
        if len(seed) != 32 or not 1 <= log_length <= 31:
            raise ParameterError(f"expected a seed of 32 bytes and 2^1 to 2^31 blocks, got {len(seed)}, 2^{log_length}")
        self._seed = seed
        self._length = 1 << log_length
        self._buffer = bytearray(_RUN * _ROW_BYTES + _AES_BYTES - 1)

    def add_to(self, out: Blocks, vector: Blocks, first: int) -> None:
        """Add rows first, first + 1, ... of A times the vector to `out` by exclusive or, in place.

        Args:
            out: (count, 2).
            vector: (2^s, 2).
            first: even, so that this row begins an AES block.

        Raises:
            ParameterError: the first row is odd or negative, or the vector has another length.
        """
        if first % 2 or first < 0 or len(vector) != self._length:
            raise ParameterError(
                f"expected an even first row and {self._length} blocks, got row {first}, {len(vector)} blocks"
            )
        counter = first * _ROW_BYTES // _AES_BYTES
        stream = Cipher(algorithms.AES(self._seed), modes.CTR(counter.to_bytes(_AES_BYTES, "big"))).encryptor()
        for start in range(0, len(out), _RUN):
            part = out[start : start + _RUN]
            stream.update_into(_ZEROS[: len(part) * _ROW_BYTES], self._buffer)
            positions = np.frombuffer(self._buffer, dtype=np.uint32, count=len(part) * ROW_WEIGHT)
            kernels.xor_positions(vector, positions.reshape(-1, ROW_WEIGHT), np.uint32(self._length - 1), part)
