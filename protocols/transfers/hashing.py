"""Break the correlation of transfers by a hash function: AES-128 on a linear map of the input, with changing keys.

    H_j(x) = pi_j(sigma(x)) ^ sigma(x),   sigma(high, low) = (high ^ low, high),   pi_j = AES-128 under key_j

sigma is a linear orthomorphism: sigma and x -> sigma(x) ^ x are both permutations. If pi_j is an ideal permutation, H_j
is circular correlation robust (Guo, Katz, Wang, Yu, IEEE S&P 2020, ePrint 2019/074, section 7.3). That is: for a secret
Delta and distinct x, take H_j(x ^ Delta) or H_j(x ^ Delta) ^ Delta of each x. These values look random and independent,
even if somebody chose the x.

**Keys change.** One key for all hashes would make it easier to hit any of many targets (Guo, Katz, Wang, Weng, Yu,
CRYPTO 2020, ePrint 2019/1168). So hashes are numbered, and number i uses key j = i // 4096: the first 16 bytes of
SHA-256(seed, j), under a public seed of the session.

**Bound**, in the ideal-cipher model. A party makes p AES calls. A call helps it only if the call meets an input or an
output of a hash of an unknown x ^ Delta under the same key. There are q such hashes, at most C of them under one key,
and Delta has 127 secret bits. Then the party's advantage is at most

    2 p C / 2^127 + q C / 2^126,   with C = 2^12:   p = 2^80 calls give 2^-34; q = 2^40 hashes give 2^-74

The first term counts calls (forwards and backwards) times targets. The second term covers two cases. Two inputs under
one key may be the same; an honest party's inputs are pseudorandom. Or two outputs would be the same if they were random
instead of a permutation's. With one key for all hashes, the first term would be 2 p q / 2^127: 2^-6 for q = 2^40.

Only inputs and outputs are secret: both parties compute the same function.
"""

import hashlib
import itertools

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from protocols.errors import ParameterError
from protocols.transfers import kernels

__all__ = ["HASHES_PER_KEY", "Blocks", "CorrelationRobustHash", "blocks_with_slack", "derived_seed"]

HASHES_PER_KEY = 1 << 12
"""C above: how many hashes share a key."""

SEED_BYTES = 32

_KEY_BYTES = 16
_BLOCK_BYTES = 16
_SLACK = 1  # AES writes whole blocks, and requires room for nearly one more

Blocks = NDArray[np.uint64]
"""Blocks of 128 bits as two words each, low word first: uint64 (count, 2)."""


def blocks_with_slack(count: int) -> Blocks:
    """Return an uninitialised array (count + 1, 2) for `encrypt`, which changes the first `count` blocks."""
    return np.empty((count + _SLACK, 2), dtype=np.uint64)


def derived_seed(session: bytes, purpose: str) -> bytes:
    """Return a public seed of 32 bytes for one purpose in a session."""
    return hashlib.sha256(session + purpose.encode()).digest()


class CorrelationRobustHash:
    """The hash H for one purpose in one session. No two purposes share a seed.

    Args:
        seed: 32 bytes, public, the same on both sides.

    Raises:
        ParameterError: the seed has another length.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ParameterError(f"expected a seed of {SEED_BYTES} bytes, got {len(seed)}")
        self._seed = seed
        self._key = -1
        self._scratch = blocks_with_slack(2 * HASHES_PER_KEY)

    def encrypt(self, blocks: Blocks, first: int) -> None:
        """Apply AES in place to `blocks` (count + 1, 2), except to the last one. Block i has number first + i."""
        for start, stop, key in _pieces(first, len(blocks) - _SLACK):
            self._encrypt(blocks[start : stop + _SLACK], key)

    def of_pairs(self, blocks: Blocks, delta: Blocks, first: int, out: NDArray[np.uint64]) -> None:
        """Write H(blocks[i] ^ b delta), with number first + i, to out[i, b].

        Args:
            blocks: (count, 2).
            delta: (2,).
            out: (count, 2, words): the first 1 or 2 words of every hash.
        """
        for start, stop, key in _pieces(first, len(blocks)):
            part, scratch = blocks[start:stop], self._scratch[: 2 * (stop - start) + _SLACK]
            pairs = scratch[:-_SLACK].reshape(-1, 2, 2)
            kernels.prepare_pairs(part, delta, pairs)
            self._encrypt(scratch, key)
            kernels.finish_pairs(part, delta, pairs, out[start:stop])

    def of_blocks(self, blocks: Blocks, first: int, low_bits: NDArray[np.uint8], out: NDArray[np.uint64]) -> None:
        """Write H(blocks[i]), with number first + i, to out[i], and the low bit of blocks[i] to low_bits[i].

        Args:
            blocks: (count, 2).
            low_bits: (count,), the choices.
            out: (count, words): the first 1 or 2 words of every hash.
        """
        for start, stop, key in _pieces(first, len(blocks)):
            part, scratch = blocks[start:stop], self._scratch[: stop - start + _SLACK]
            kernels.orthomorphism(part, scratch)
            self._encrypt(scratch, key)
            kernels.finish_hash(part, scratch, low_bits[start:stop], out[start:stop])

    def _encrypt(self, blocks: Blocks, key: int) -> None:
        """Apply AES under key number `key` to all of `blocks` except the last one."""
        if key != self._key:
            digest = hashlib.sha256(self._seed + key.to_bytes(8, "little")).digest()
            aes = algorithms.AES(digest[:_KEY_BYTES])
            self._cipher = Cipher(aes, modes.ECB()).encryptor()  # noqa: S305  (intended: plain AES, block by block)
            self._key = key
        data = blocks.data.cast("B")
        self._cipher.update_into(data[: -_SLACK * _BLOCK_BYTES], data)


def _pieces(first: int, count: int) -> list[tuple[int, int, int]]:
    """Cut `count` hashes, numbered from `first`, into runs that share a key; return start, stop and key of each."""
    bounds = [0, *range(HASHES_PER_KEY - first % HASHES_PER_KEY, count, HASHES_PER_KEY), count] if count else []
    return [(a, b, (first + a) // HASHES_PER_KEY) for a, b in itertools.pairwise(bounds)]
