"""A pseudorandom generator on ring elements: AES-256 in counter mode, one stream per (seed, index).

A dealer and a party that hold the same seed expand it to the same arrays, so neither sends them. Security rests on
AES-256 as a pseudorandom permutation. Each index is used once per seed, so no keystream repeats.
"""

import secrets
from dataclasses import dataclass, field

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import KEY_BYTES, keystream
from protocols.errors import ParameterError

__all__ = ["SEED_BYTES", "Stream", "new_seed"]

SEED_BYTES = KEY_BYTES


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
        self._block = 0

    def ring(self, shape: tuple[int, ...]) -> RingArray:
        """Return the next pseudorandom elements of Z_2^64; every call starts at a new AES block."""
        count = int(np.prod(shape, dtype=np.int64))
        words = keystream(self.seed, self.index.to_bytes(8, "big") + self._block.to_bytes(8, "big"), count)
        self._block += -(-count // 2)
        return words.reshape(shape)
