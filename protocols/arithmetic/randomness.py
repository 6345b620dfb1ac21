"""Random bytes in bulk: AES-256 in counter mode under a key from the system's CSPRNG, a fresh key for every draw.

One verification needs many random bytes, and the system's generator alone is slower: docs/SECURITY.md has commands that
compare the two. The secrets that these bytes hide rest on AES-256, as the correlations do already. The same keystream
under a public key (a "seed") expands to the random component of an encryption.
"""

import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = ["KEY_BYTES", "keystream", "random_words"]

KEY_BYTES = 32
_COUNTER_BYTES = 16


def random_words(count: int) -> NDArray[np.uint64]:
    """Draw `count` uniform 64-bit words that can hide secrets."""
    return keystream(secrets.token_bytes(KEY_BYTES), bytes(_COUNTER_BYTES), count)


def keystream(key: bytes, counter: bytes, count: int) -> NDArray[np.uint64]:
    """Return the first `count` 64-bit words of AES-256-CTR, (count,), writeable.

    Args:
        key: 32 bytes.
        counter: the first counter block, 16 bytes. Two draws under one key must not share a counter block.

    Raises:
        ParameterError: the key or the counter has another length.
    """
    if len(key) != KEY_BYTES or len(counter) != _COUNTER_BYTES:
        raise ParameterError(f"expected a key of 32 and a counter of 16 bytes, got {len(key)} and {len(counter)}")
    words = bytearray(8 * count + _COUNTER_BYTES - 1)
    Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update_into(bytes(8 * count), words)
    return np.frombuffer(words, dtype=np.uint64, count=count)
