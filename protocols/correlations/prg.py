"""A pseudorandom generator on ring elements: AES-256 in counter mode, one stream per (seed, index).

A dealer and a party that hold the same seed expand the same arrays without sending them. Security: AES-256 as a
pseudorandom permutation; an index is used once per seed, so no keystream repeats.
"""

import secrets
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.errors import ParameterError
from protocols.ring import RingArray

__all__ = ["SEED_BYTES", "Stream", "new_seed"]

SEED_BYTES = 32


def new_seed() -> bytes:
    """Draw a seed from the system's CSPRNG."""
    return secrets.token_bytes(SEED_BYTES)


@dataclass
class Stream:
    """The keystream of one index under a seed.

    Args:
        seed: 32 bytes.
        index: in [0, 2^64); never reuse one with the same seed for another purpose.
    """

    seed: bytes = field(repr=False)
    index: int

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES or not 0 <= self.index < 2**64:
            raise ParameterError(f"expected a seed of {SEED_BYTES} bytes and an index below 2^64")
        nonce = self.index.to_bytes(8, "big") + bytes(8)
        self._encryptor = Cipher(algorithms.AES(self.seed), modes.CTR(nonce)).encryptor()

    def ring(self, shape: tuple[int, ...]) -> RingArray:
        """Return the next pseudorandom elements of Z_2^64."""
        size = 8 * int(np.prod(shape, dtype=np.int64))
        words = bytearray(size + 15)
        self._encryptor.update_into(bytes(size), words)
        return np.frombuffer(words, dtype=np.uint64, count=size // 8).reshape(shape)
