"""The server's gallery: what goes in comes out, numbers are used once, and only an undamaged store is opened."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from parties.gallery.errors import StoreError
from parties.gallery.key import GalleryKey
from parties.gallery.kind import GalleryKind
from parties.gallery.store import database, rotation, store, tables
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import RingArray, encode
from protocols.errors import ParameterError

MODEL, DIMENSION = "4f3a", 8
RNG = np.random.default_rng(5)
Open = Callable[..., GalleryStore]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here pulls the plug; a killed process loses nothing that it has handed to the system."""
    monkeypatch.setattr(database, "_SETTINGS", ("foreign_keys = ON", "secure_delete = ON", "synchronous = OFF"))


def random_share() -> RingArray:
    return RNG.integers(0, 2**64, DIMENSION, dtype=np.uint64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staff gallery?#%.db"  # characters that mean something in a URI


@pytest.fixture
def begin(path: Path) -> Iterator[Open]:
    """Open the store of this test; closed at its end."""
    opened: list[GalleryStore] = []

    def open_store(**changes: Any) -> GalleryStore:
        given = {
            "path": path,
            "model": MODEL,
            "dimension": DIMENSION,
            "kind": GalleryKind.PRIVATE,
            "timeout": 0.2,
            **changes,
        }
        opened.append(GalleryStore(**given))
        return opened[-1]

    yield open_store
    for one in opened:
        one.close()


def content(gallery: GalleryStore) -> list[tuple[Entry, bytes]]:
    return [(entry, share.tobytes()) for entry, share in gallery.entries()]


def on_disk(path: Path) -> bytes:
    """Return all bytes of the store's files."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))


def test_photos_come_back_by_identity_row_and_order(begin: Open) -> None:
    gallery = begin()
    values = [random_share() for _ in range(4)]
    entries = [gallery.enroll(name, v) for name, v in zip(["bob", "alice", "bob", "al"], values, strict=True)]
    assert [(e.row, e.identity, e.photo, e.generation) for e in entries] == [
        (1, "bob", 1, 1),
        (2, "alice", 1, 1),
        (3, "bob", 2, 1),
        (4, "al", 1, 1),
    ]
    for one in (gallery, begin(read_only=True)):
        assert [(e, s.tolist()) for e, s in one.get("bob")] == [
            (entries[0], values[0].tolist()),
            (entries[2], values[2].tolist()),
        ]
        assert content(one) == [(e, v.tobytes()) for e, v in zip(entries, values, strict=True)]
        assert np.array_equal(one.shares([3, 1, 3]), np.stack([values[2], values[0], values[2]]))
        assert one.shares([]).shape == (0, DIMENSION)
        assert (one.identities(), one.count) == ({"al": 1, "alice": 1, "bob": 2}, 4)
        assert one.get("Bob") == []
    with pytest.raises(StoreError, match="expected a row of an enrolled photo, got 5"):
        gallery.shares([1, 5])


def test_the_settings_of_every_connection(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for read_only in (False, True):
        with GalleryStore(path, MODEL, DIMENSION, GalleryKind.PRIVATE, read_only) as gallery:
            expected = {"synchronous": 2, "secure_delete": 1, "foreign_keys": 1, "busy_timeout": 30_000}
            assert {name: gallery._database.number(f"PRAGMA {name}") for name in expected} == expected
            assert gallery._database.rows("PRAGMA journal_mode") == [("wal",)]


def test_batches_smaller_than_what_is_enrolled(begin: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (store, tables, rotation):
        monkeypatch.setattr(module, "batch_rows", lambda dimension: 3)
    gallery = begin()
    values = [random_share() for _ in range(10)]
    seen: list[list[int]] = []
    pairs = ((f"person {i % 4}", value) for i, value in enumerate(values))
    assert gallery.enroll_many(pairs, lambda entries: seen.append([e.row for e in entries])) == 10
    assert seen == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
    assert [share for _, share in content(gallery)] == [value.tobytes() for value in values]
    assert gallery.replace_shares((entry.row, share + np.uint64(1)) for entry, share in gallery.entries()) == 2
    assert [share for _, share in content(gallery)] == [(value + np.uint64(1)).tobytes() for value in values]


def test_an_error_in_bulk_keeps_the_batches_before(begin: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "batch_rows", lambda dimension: 2)
    gallery = begin()

    def pairs() -> Iterator[tuple[str, RingArray]]:
        for name in "abcde":
            yield name, random_share()[: 7 if name == "d" else 8]

    with pytest.raises(ParameterError, match=r"expected a share of uint64 \(8,\), got uint64 \(7,\)"):
        gallery.enroll_many(pairs())
    assert gallery.identities() == {"a": 1, "b": 1}


IDENTITIES = [
    "Ada Lovelace",
    " leading and trailing ",
    "Zoë",
    "Zoe\u0308",  # the same to the eye, another identity here
    "王秀英 🙂",
    "nul\0inside",
    "nul\0inside too",
    "nul",
    "'; DROP TABLE entry; --",
    '"quoted" \\ %_?*',
    "line\nbreak\ttab",
    "ALICE",
    "alice",
    "x" * 10_000,
    "🙂" * 10_000,
    "x" * 9_999 + "y",
]


def test_identities_are_compared_exactly(begin: Open) -> None:
    gallery = begin()
    values = {name: random_share() for name in IDENTITIES}
    for name, value in values.items():
        gallery.enroll(name, value)
    gallery.close()
    gallery = begin()
    assert list(gallery.identities()) == sorted(IDENTITIES)
    for name, value in values.items():
        [(entry, share)] = gallery.get(name)
        assert (entry.identity, share.tolist()) == (name, value.tolist())
    for name in IDENTITIES:
        assert gallery.remove(name) == 1
        assert gallery.get(name) == []
    assert gallery.count == 0


@settings(max_examples=15, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=30), unique=True, max_size=8))
def test_any_text_is_an_identity(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    with GalleryStore(tmp_path_factory.mktemp("any") / "g", MODEL, DIMENSION, GalleryKind.LIST) as gallery:
        gallery.enroll_many((name, random_share()) for name in names)
        assert gallery.identities() == dict.fromkeys(sorted(names), 1)


@pytest.mark.parametrize("identity", ["", "x" * 10_001, "\ud800", b"bytes", None])
def test_what_is_no_identity(begin: Open, identity: Any) -> None:
    with pytest.raises(ParameterError, match="expected an identity"):
        begin().enroll(identity, random_share())


@pytest.mark.parametrize("share", [np.zeros(8), np.zeros((1, 8), np.uint64), np.zeros(8, np.int64), [0] * 8])
def test_what_is_no_share(begin: Open, share: Any) -> None:
    with pytest.raises(ParameterError, match=r"expected a share of uint64 \(8,\)"):
        begin().enroll("alice", share)


def test_a_reservation_is_invisible_until_its_commit(begin: Open) -> None:
    gallery = begin()
    first, second = gallery.reserve_many(["alice", "alice"])
    assert [(e.row, e.photo) for e in (first, second)] == [(1, 1), (2, 2)]
    assert (content(gallery), gallery.identities(), gallery.count, gallery.get("alice")) == ([], {}, 0, [])
    assert gallery.enroll("alice", random_share()).photo == 3
    value = random_share()
    gallery.commit(second, value)
    assert [(e.row, e.photo) for e, _ in gallery.get("alice")] == [(2, 2), (3, 3)]
    assert np.array_equal(gallery.shares([2])[0], value)
    gallery.cancel(first)
    gallery.cancel(first)
    for entry in (first, second, Entry(9, "alice", 9, 1), Entry(2, "bob", 2, 1)):
        with pytest.raises(StoreError, match="expected a reserved entry"):
            gallery.commit(entry, value)
    gallery.cancel(second)  # it is no reservation any more
    assert gallery.count == 2
    assert gallery.enroll("alice", random_share()).photo == 4


def test_several_commits_are_all_or_none(begin: Open) -> None:
    gallery = begin()
    entries = gallery.reserve_many(["alice", "bob"])
    with pytest.raises(StoreError):
        gallery.commit_many((entry, random_share()) for entry in [*entries, entries[0]])
    assert gallery.count == 0
    gallery.commit_many((entry, random_share()) for entry in entries)
    assert gallery.count == 2


def test_numbers_are_never_used_again(begin: Open) -> None:
    gallery = begin()
    used: set[tuple[str, int]] = set()
    rows: list[int] = []
    for round_ in range(4):
        for name in ("alice", "bob", "alice"):
            entry = gallery.enroll(name, random_share())
            reserved = gallery.reserve(name)
            for one in (entry, reserved):
                assert (name, one.photo) not in used
                used.add((name, one.photo))
                rows.append(one.row)
        gallery.cancel(reserved)
        gallery.remove("alice" if round_ % 2 else "bob")
        gallery.close()
        gallery = begin()
    assert rows == sorted(set(rows))


@pytest.mark.parametrize("end", ["remove", "cancel", "reopen"])
def test_a_number_is_not_used_again_when_its_photo_has_gone(begin: Open, end: str) -> None:
    gallery = begin()
    first = gallery.enroll("alice", random_share()) if end == "remove" else gallery.reserve("alice")
    match end:
        case "remove":
            gallery.remove("alice")
        case "cancel":
            gallery.cancel(first)
        case _:
            gallery.close()
            gallery = begin()
    assert (first.photo, gallery.enroll("alice", random_share()).photo) == (1, 2)
    assert gallery.enroll("bob", random_share()).photo == 2


def test_reservations_end_with_the_last_process_that_writes(begin: Open) -> None:
    gallery = begin()
    entry = gallery.reserve("secret name")
    begin(read_only=True).close()
    begin().close()  # another writer: the first still has its reservation
    gallery.commit(entry, random_share())
    lost = gallery.reserve("lost name")
    gallery.close()
    gallery = begin()
    assert gallery.identities() == {"secret name": 1}
    with pytest.raises(StoreError, match="expected a reserved entry"):
        gallery.commit(lost, random_share())
    assert b"lost name" not in on_disk(gallery.path)


def test_a_replacement_needs_every_row_once(begin: Open) -> None:
    gallery = begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b", "c"))
    reserved = gallery.reserve("d")
    before = content(gallery)
    new = {row: random_share() for row in (1, 2, 3)}
    for rows, message in [
        ([1, 2], "expected a share for every row, got none for 3"),
        ([1, 2, 2], "got row 2 twice"),
        ([1, 2, 3, 4], "got row 4 which is not enrolled"),
        ([1, 2, 3, 9], "got row 9 which is not enrolled"),
        ([], "got none for 1"),
    ]:
        with pytest.raises(StoreError, match=message):
            gallery.replace_shares((row, new.get(row, random_share())) for row in rows)
        assert (content(gallery), gallery.generation) == (before, 1)
    assert gallery.replace_shares(new.items()) == 2
    assert [e.generation for e, _ in content(gallery)] == [2, 2, 2]
    assert np.array_equal(gallery.shares([1, 2, 3]), np.stack(list(new.values())))
    with pytest.raises(StoreError, match="generation 2, got 1"):
        gallery.commit(reserved, random_share())
    assert not any(share in on_disk(gallery.path) for _, share in before)
    assert gallery.replace_shares((row, share) for row, share in new.items()) == 3


@pytest.mark.parametrize("after", [1, 3])
def test_the_later_of_two_replacements_wins(begin: Open, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(rotation, "batch_rows", lambda dimension: 1)
    first, second = begin(), begin()
    first.enroll_many((name, random_share()) for name in ("a", "b", "c"))
    new = [(row, random_share()) for row in (1, 2, 3)]

    def slow() -> Iterator[tuple[int, RingArray]]:
        for row in (1, 2, 3):
            yield row, random_share()
            if row == after:
                second.replace_shares(new)

    with pytest.raises(StoreError, match="another process has begun"):
        first.replace_shares(slow())
    assert first.generation == 2
    assert np.array_equal(first.shares([1, 2, 3]), np.stack([share for _, share in new]))


def test_a_photo_removed_during_a_replacement_stays_removed(begin: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "batch_rows", lambda dimension: 1)
    gallery, other = begin(), begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b"))

    def pairs() -> Iterator[tuple[int, RingArray]]:
        yield 1, random_share()
        yield 2, random_share()
        other.remove("a")

    assert gallery.replace_shares(pairs()) == 2
    assert gallery.identities() == {"b": 1}


def test_reading_stops_when_the_key_changes(begin: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "batch_rows", lambda dimension: 1)
    gallery = begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b"))
    reading = gallery.entries()
    next(reading)
    gallery.replace_shares((row, random_share()) for row in (1, 2))
    with pytest.raises(StoreError, match="the key has changed"):
        next(reading)


def test_changes_tell_an_index_what_to_do(begin: Open) -> None:
    gallery = begin()

    def changes(number: int) -> tuple[int, list[int], list[int]]:
        found = gallery.changes_since(number)
        return found.number, found.added.tolist(), found.removed.tolist()

    assert changes(0) == (0, [], [])
    late = gallery.reserve("late")
    gallery.enroll("a", random_share())
    gallery.enroll("b", random_share())
    assert changes(0) == (2, [2, 3], [])
    gallery.commit(late, random_share())  # a row below those that the index has seen
    assert changes(2) == (3, [1], [])
    gallery.remove("a")
    gallery.enroll("c", random_share())
    gallery.remove("c")
    assert changes(3) == (6, [], [2])
    assert changes(0) == (6, [1, 3], [])
    assert gallery.changes_since(6).generation == 1
    with pytest.raises(StoreError, match="expected a change's number of 0 to 6, got 7"):
        gallery.changes_since(7)


def test_removal_leaves_nothing(begin: Open) -> None:
    gallery = begin()
    reader = begin(read_only=True)
    kept, gone = {}, {}
    for i in range(300):  # long and short names, so that pages split and merge
        name = f"<{i}>" * (1 + 60 * (i % 3))
        (gone if i % 2 else kept)[name] = random_share()
        gallery.enroll(name, (gone if i % 2 else kept)[name])
    gallery.reserve("<1>" * 61)
    first = next(iter(gone))
    assert gallery.remove(first) == 1
    assert gallery.remove_many([*gone, "nobody"]) == 149
    left = on_disk(gallery.path)
    for name, value in gone.items():
        for piece in (name[:8].encode(), value[:2].tobytes(), value[-2:].tobytes()):
            assert (len(piece) < 5 or piece.startswith(b"<1")) or piece not in left
        assert name.encode() not in left
    assert reader.identities() == dict.fromkeys(sorted(kept), 1)
    assert all(reader.get(name)[0][1].tolist() == value.tolist() for name, value in kept.items())
    assert all(value.tobytes() in left for value in kept.values())


def test_a_cancelled_name_goes_with_the_next_removal(begin: Open) -> None:
    gallery = begin()
    gallery.cancel(gallery.reserve("secret name"))
    assert b"secret name" in on_disk(gallery.path)
    assert gallery.remove("nobody") == 0
    assert b"secret name" not in on_disk(gallery.path)


def test_removal_that_a_reader_delays_is_said_and_done_later(begin: Open) -> None:
    gallery = begin()
    gallery.enroll("somebody", random_share())
    reader = sqlite3.connect(gallery.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM entry").fetchall()
    with pytest.raises(StoreError, match="a reader still holds the old bytes"):
        gallery.remove("somebody")
    assert gallery.count == 0
    gallery.enroll("else", random_share())
    reader.close()
    gallery.close()
    assert b"somebody" not in on_disk(begin().path)


def test_the_stored_bytes_are_uniform(begin: Open, path: Path, tmp_path: Path) -> None:
    key, gallery, plain = GalleryKey(bytes(range(32))), begin(), begin(path=tmp_path / "list", kind=GalleryKind.LIST)
    people = encode(np.random.default_rng(3).normal(size=(3, DIMENSION)) / 3)
    templates = np.stack([people[i % 3] for i in range(400)])  # the same again and again
    entries = gallery.reserve_many(["person"] * 400)
    streams = key.shares_of(gallery.scope, entries, DIMENSION)
    gallery.commit_many(zip(entries, templates - streams, strict=True))
    plain.enroll_many(("person", template) for template in templates)

    def p_value(file: Path) -> float:
        stored = sqlite3.connect(file).execute("SELECT share FROM share_1").fetchall()
        counts = np.bincount(np.frombuffer(b"".join(row[0] for row in stored), np.uint8), minlength=256)
        assert counts.sum() == 400 * 8 * DIMENSION
        return float(chisquare(counts).pvalue)

    assert p_value(path) > 1e-6
    assert p_value(plain.path) < 1e-100  # the test sees templates that are not hidden


def test_the_files_are_the_owners_alone(begin: Open, path: Path) -> None:
    mask = os.umask(0)
    try:
        gallery = begin()
        gallery.enroll("alice", random_share())
        gallery.export(path.parent / "exported")
    finally:
        os.umask(mask)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert len(modes) == 5
    assert set(modes.values()) == {0o600}
    gallery.close()
    path.chmod(0o644)
    begin()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_busy_or_closed_store_says_so(begin: Open) -> None:
    gallery = begin()
    other = sqlite3.connect(gallery.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process held the store for 0.2 s"):
        gallery.enroll("alice", random_share())
    assert gallery.count == 0  # reading goes on
    other.close()
    gallery.close()
    with pytest.raises(StoreError, match="expected an open store, got a closed one"):
        gallery.enroll("alice", random_share())


def test_a_read_only_store_does_not_write(begin: Open, path: Path) -> None:
    begin().close()
    before = path.read_bytes()
    with begin(read_only=True) as reader:
        with pytest.raises(StoreError, match="readonly"):
            reader.enroll("alice", random_share())
    assert path.read_bytes() == before
    shutil.rmtree(path.parent)
