"""Bulk randomness: AES-256 in counter mode, fresh keys, uniform words."""

import secrets

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic import randomness
from protocols.arithmetic.randomness import keystream, random_words
from protocols.errors import ParameterError
from support.statistics import assert_uniform_bytes

NIST_KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
NIST_COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
PLAINTEXT = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
CIPHERTEXT = bytes.fromhex(
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def test_the_keystream_is_that_of_the_published_vector() -> None:
    """NIST SP 800-38A, F.5.5: CTR-AES256.Encrypt, four blocks."""
    stream = keystream(NIST_KEY, NIST_COUNTER, 8).tobytes()
    assert bytes(a ^ b for a, b in zip(PLAINTEXT, stream, strict=True)) == CIPHERTEXT


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**128 - 1), st.integers(0, 41))
@settings(max_examples=50, deadline=None)
def test_the_keystream_is_the_cipher_on_successive_counters(key: bytes, counter: int, count: int) -> None:
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 (the definition of counter mode)
    blocks = b"".join(ecb.update(((counter + i) % 2**128).to_bytes(16, "big")) for i in range(-(-count // 2)))
    words = keystream(key, counter.to_bytes(16, "big"), count)
    assert words.tolist() == np.frombuffer(blocks, dtype="<u8")[:count].tolist()
    assert words.flags.writeable


@pytest.mark.parametrize(("key", "counter"), [(16, 16), (31, 16), (33, 16), (32, 8), (32, 17), (32, 0)])
def test_other_lengths_are_refused(key: int, counter: int) -> None:
    with pytest.raises(ParameterError, match="expected a key of 32 and a counter of 16 bytes"):
        keystream(bytes(key), bytes(counter), 1)


def test_words_are_uniform() -> None:
    words = random_words(200_000)
    assert_uniform_bytes(words)
    low, high = words & np.uint64(2**32 - 1), words >> np.uint64(32)
    assert abs(np.corrcoef(low.astype(float), high.astype(float))[0, 1]) < 0.02
    assert len(np.unique(words)) == words.size


def test_no_draw_repeats_another() -> None:
    draws = np.concatenate([random_words(count) for count in (1, 2, 3, 1000) for _ in range(50)])
    assert len(np.unique(draws)) == draws.size


def test_every_draw_has_a_key_of_its_own_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []

    def recorded(size: int) -> bytes:
        keys.append(secrets.token_bytes(size))
        return keys[-1]

    class System:
        token_bytes = staticmethod(recorded)

    monkeypatch.setattr(randomness, "secrets", System)
    draws = [random_words(4) for _ in range(20)]
    assert len(keys) == len(set(keys)) == 20
    assert all(len(key) == 32 for key in keys)
    for key, draw in zip(keys, draws, strict=True):
        assert (draw == keystream(key, bytes(16), 4)).all()
