"""The client's key: streams that nobody else computes and no two templates share, and a file that is kept well."""

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from parties.gallery.errors import KeyFileError, KeyFileWarning
from parties.gallery.key import GalleryKey, create_key, read_key
from parties.gallery.store.records import Entry
from protocols.errors import ParameterError

KEY, SCOPE = GalleryKey(bytes(range(32))), bytes(range(100, 116))
KNOWN_SHARE = ["a1e860fa63ac201a", "02583edc20ab99a9", "5ff318c61bfb9dbc", "1f30b8f95a083fc7"]
KNOWN_SEED = "7c16dc342889ae64f84189ca6e3a17b735db107edd6e111fb4321e62ae40c476"
"""Of KEY and SCOPE, as `openssl mac` and `openssl enc` compute them."""

numbers = st.integers(0, 2**64 - 1)
inputs = st.tuples(st.binary(min_size=16, max_size=16), st.text(min_size=1, max_size=12), numbers, numbers)


def test_known_answers() -> None:
    share = KEY.share_of(SCOPE, "Zoë", 2, 3, 4)
    assert share.dtype == np.uint64
    assert [f"{word:016x}" for word in share] == KNOWN_SHARE
    assert KEY.mask_seed(SCOPE).hex() == KNOWN_SEED


@given(values=inputs, dimension=st.integers(1, 40))
def test_a_share_is_what_its_definition_says(values: tuple[bytes, str, int, int], dimension: int) -> None:
    scope, identity, photo, generation = values
    encoded = b"hybridface gallery share 1\n" + scope
    for number in (photo, generation, dimension):
        encoded += number.to_bytes(8, "little")
    derived = hmac.new(KEY.secret, encoded + identity.encode(), hashlib.sha256).digest()
    stream = Cipher(algorithms.AES256(derived), modes.CTR(bytes(16))).encryptor().update(bytes(8 * dimension))
    share = KEY.share_of(scope, identity, photo, generation, dimension)
    assert share.astype("<u8").tobytes() == stream


@given(first=inputs, second=inputs)
def test_no_two_templates_have_one_stream(first: Any, second: Any) -> None:
    same = np.array_equal(KEY.share_of(*first, 4), KEY.share_of(*second, 4))
    assert same == (first == second)


def test_every_input_changes_the_whole_share() -> None:
    base = {"scope": SCOPE, "identity": "ab", "photo": 1, "generation": 1, "dimension": 128}
    others = [
        {"scope": bytes(16)},
        {"identity": "a"},
        {"identity": "ab\0"},
        {"identity": "AB"},
        {"photo": 256},
        {"photo": 0},
        {"generation": 2},
        {"dimension": 127},
    ]
    share = KEY.share_of(**base)
    for change in others:
        assert not np.any(share[:127] == KEY.share_of(**(base | change))[:127]), change
    assert not np.any(share == GalleryKey(bytes(32)).share_of(**base))
    assert len({KEY.mask_seed(SCOPE), KEY.mask_seed(bytes(16)), GalleryKey(bytes(32)).mask_seed(SCOPE)}) == 3


def test_many_shares_at_once() -> None:
    entries = [Entry(row, f"person {row % 7}", 1 + row // 7, 1 + row % 2) for row in range(1, 60)]
    shares = KEY.shares_of(SCOPE, iter(entries), 8)
    assert shares.shape == (59, 8)
    for share, entry in zip(shares, entries, strict=True):
        assert np.array_equal(share, KEY.share_of(SCOPE, entry.identity, entry.photo, entry.generation, 8))
    assert KEY.shares_of(SCOPE, [], 8).shape == (0, 8)


def test_shares_are_uniform() -> None:
    entries = [Entry(1, "person", photo, 1) for photo in range(500)]
    counts = np.bincount(KEY.shares_of(SCOPE, entries, 64).view(np.uint8).ravel(), minlength=256)
    assert chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize(
    "change",
    [
        {"scope": bytes(15)},
        {"identity": ""},
        {"photo": -1},
        {"photo": 2**64},
        {"generation": -1},
        {"generation": 2**64},
        {"dimension": 0},
    ],
)
def test_inputs_out_of_range(change: dict[str, Any]) -> None:
    given_ = {"scope": SCOPE, "identity": "a", "photo": 1, "generation": 1, "dimension": 8}
    with pytest.raises(ParameterError):
        KEY.share_of(**(given_ | change))
    with pytest.raises(ParameterError):
        KEY.mask_seed(bytes(15))


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "gallery.key"
    mask = os.umask(0)
    try:
        key = create_key(path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == key.secret
    assert len(key.secret) == 32
    assert read_key(path) == key
    assert create_key(tmp_path / "other.key") != key
    assert key.secret.hex() not in repr(key)
    assert repr(key.secret) not in repr(key)
    with pytest.raises(KeyFileError, match="expected a new key file, got one that exists"):
        create_key(path)
    assert read_key(path) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_warned_of(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "gallery.key"
    key = create_key(path)
    path.chmod(mode)
    with pytest.warns(KeyFileWarning, match=f"mode {mode:04o}"):
        assert read_key(path) == key


@pytest.mark.parametrize("content", [b"", bytes(31), b"k" * 33, bytes(32), b"\xff" * 32])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gallery.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="expected"):
        read_key(path)


def test_a_large_file_is_no_key_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "gallery.key"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(KeyFileError, match="expected a key file of 32 bytes, got another file"):
        read_key(path)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for name, said in (
        ("missing", "No such file"),
        ("pipe", "expected a plain file"),
        ("folder", "expected a plain file"),
    ):
        with pytest.raises(KeyFileError, match=f"{name}: cannot read the key file: {said}"):
            read_key(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before, "it is left open"
    with pytest.raises(KeyFileError, match="No such file"):
        create_key(tmp_path / "nowhere" / "key")
    with pytest.raises(ParameterError, match="expected a key of 32 bytes, got 5"):
        GalleryKey(b"short")
