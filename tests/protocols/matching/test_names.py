"""Names of a server's list: the client opens the one it looked up and no other; the server's view is uniform."""

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.channel import CLIENT
from protocols.errors import HiddenError, ParameterError, ProtocolError
from protocols.matching import names as sealing
from protocols.matching.names import SEALED_BYTES, look_up, lookup_requests, open_name, seal_names
from support.frames import record
from support.shares import pool_is_empty, run_locally
from support.statistics import assert_uniform_bytes

NAMES = ["Ann", "", "two words", "Ünïcødé 名前", "x" * 127, "zero\0byte\0"]


def keys_of(indices: list[int | None]) -> tuple[Any, list[Any], list[bytes]]:
    sealed, keys = seal_names(NAMES)
    frames: list[bytes] = []

    def client(party: Any) -> Any:
        sent = record(party.channel)
        found = []
        for index in indices:
            party.correlations.prepare(lookup_requests(len(NAMES)))
            found.append(look_up(party, len(NAMES), indices=[index])[0])
        assert pool_is_empty(party)
        frames.extend(sent)
        return found

    def server(party: Any) -> Any:
        results = []
        for _ in indices:
            party.correlations.prepare(lookup_requests(len(NAMES)))
            results.append(look_up(party, len(NAMES), keys=keys))
        return results

    found, nothing = run_locally(client, server)
    assert nothing == [None] * len(indices)
    return sealed, found, frames


def test_a_lookup_opens_its_name_and_no_other() -> None:
    sealed, found, _ = keys_of([*range(len(NAMES)), None])
    for index, key in enumerate(found[:-1]):
        assert open_name(sealed, index, key) == NAMES[index]
        with pytest.raises(HiddenError, match="expected the found person's sealed name, got something else"):
            open_name(sealed, (index + 1) % len(NAMES), key)
    assert not found[-1].any()
    assert sealed.shape == (8, SEALED_BYTES), "one name of 127 bytes takes three records"


def test_several_lookups_at_once() -> None:
    sealed, keys = seal_names(NAMES)

    def side(party: Any) -> Any:
        party.correlations.prepare(lookup_requests(len(NAMES), 3))
        mine = {"indices": [4, None, 1]} if party.rank == CLIENT else {"keys": keys}
        return look_up(party, len(NAMES), 3, **mine), pool_is_empty(party)

    (found, emptied), _ = run_locally(side, side)
    assert emptied
    assert np.array_equal(found, [keys[4], [0, 0], keys[1]])
    assert open_name(sealed, 4, found[0]) == NAMES[4]


@pytest.mark.slow
def test_the_server_cannot_tell_lookups_apart() -> None:
    _, _, frames = keys_of([2] * 120 + [None] * 120)
    words = [
        np.frombuffer(frame[-8 * (len(frame) // 8 - 8) :], dtype=np.uint64) for frame in frames if len(frame) > 150
    ]
    assert_uniform_bytes(np.concatenate(words))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80) | st.text(alphabet="名é😀x", min_size=60, max_size=400), max_size=8))
def test_names_of_any_length(names: list[str]) -> None:
    sealed, keys = seal_names(names)
    assert [open_name(sealed, i, key) for i, key in enumerate(keys)] == names
    assert keys.shape == (len(names), 2)
    overflow = sum(-(-max(0, len(name.encode()) - 64) // 44) for name in names)
    assert sealed.shape == (len(names) + overflow, 81), "the number of records is all that lengths show in"


@pytest.mark.parametrize(("size", "records"), [(63, 1), (64, 1), (65, 2), (108, 2), (109, 3), (152, 3), (153, 4)])
def test_a_name_that_just_fits(size: int, records: int) -> None:
    sealed, keys = seal_names(["x" * size, "y"])
    assert open_name(sealed, 0, keys[0]) == "x" * size
    assert len(sealed) == records + 1


def test_ten_thousand_characters_of_every_width() -> None:
    names = ["x" * 10_000, "é" * 10_000, "名" * 10_000, "😀" * 10_000, "Ann"]
    sealed, keys = seal_names(names)
    assert [open_name(sealed, i, key) for i, key in enumerate(keys)] == names
    small, _ = seal_names(["Ann"] * 1000)
    assert small.nbytes == 81_000, "a short name costs the same, whatever others there are"


def chain(sealed: Any, key: Any, index: int) -> list[int]:
    """The records of a name, by an implementation of its own."""
    found = []
    secret = key.tobytes()
    while True:
        found.append(index)
        information = b"hybridface sealed name" + index.to_bytes(8, "little")
        cipher = AESGCM(HKDF(SHA256(), 32, None, information).derive(secret))
        record = cipher.decrypt(bytes(12), sealed[index].tobytes(), None)
        if record[0] != 255:
            return found
        index, secret = int.from_bytes(record[1:5], "little"), record[5:21]


def test_overflow_records_lie_in_a_random_order() -> None:
    names = ["x" * 200, "Ann", "y" * 200]
    orders = set()
    for _ in range(200):
        sealed, keys = seal_names(names)
        first, second = chain(sealed, keys[0], 0), chain(sealed, keys[2], 2)
        assert (first[0], second[0]) == (0, 2)
        assert sorted(first[1:] + second[1:]) == list(range(3, 11))
        orders.add(tuple(first[1:]))
    assert len(orders) > 150, "of 1,680 orders"


def test_a_name_that_is_not_found_shows_nothing_of_its_length() -> None:
    """Records of every kind are uniform to who has no key."""
    sealed = np.concatenate([seal_names(["x" * 300, "", "y"])[0] for _ in range(400)])
    assert_uniform_bytes(np.ascontiguousarray(sealed[:, :80]).view(np.uint64))


def test_a_record_that_was_changed_is_noticed() -> None:
    sealed, keys = seal_names(["x" * 200, "Ann", "y" * 100])
    records = chain(sealed, keys[0], 0)
    for number in range(len(sealed)):
        for place in (0, 3, 30, 80):
            changed = sealed.copy()
            changed[number, place] ^= 1
            if number in records:
                with pytest.raises(HiddenError, match="expected the found person's sealed name, got something else"):
                    open_name(changed, 0, keys[0])
            else:
                assert open_name(changed, 0, keys[0]) == "x" * 200
    swapped = sealed.copy()
    swapped[records[1:3]] = sealed[records[2:0:-1]]
    with pytest.raises(ProtocolError):
        open_name(swapped, 0, keys[0])
    with pytest.raises(ProtocolError):
        open_name(sealed[:3], 0, keys[0])
    assert open_name(sealed, 1, keys[1]) == "Ann"
    with pytest.raises(ProtocolError):
        open_name(sealed, records[1], keys[0])


def link(number: int) -> bytes:
    return number.to_bytes(4, "little") + bytes(16) + b"x" * 44


@pytest.mark.parametrize(
    ("head", "content"),
    [(255, link(0)), (255, link(2)), (65, link(1)), (254, link(1)), (2, b"\xff\xff")],
    ids=["endless", "beyond", "too long", "unknown", "no text"],
)
def test_what_a_server_that_deviates_may_seal(head: int, content: bytes) -> None:
    key = np.zeros(2, dtype=np.uint64)
    last = sealing._seal(key, 1, 3, b"Ann")
    assert open_name(np.stack([sealing._seal(key, 0, 255, link(1)), last]), 0, key) == "x" * 44 + "Ann"
    with pytest.raises(HiddenError, match="expected the found person's sealed name, got something else"):
        open_name(np.stack([sealing._seal(key, 0, head, content), last]), 0, key)


def test_too_long_a_name() -> None:
    with pytest.raises(ParameterError, match="at most 65535 bytes"):
        seal_names(["x" * 65536])
