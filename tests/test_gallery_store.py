"""The server's gallery: what goes in comes out, numbers are used once, and only an undamaged store is opened."""

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from parties.gallery import database, rotation, store, tables
from parties.gallery.errors import StoreError
from parties.gallery.key import GalleryKey
from parties.gallery.records import Entry, Kind
from parties.gallery.store import GalleryStore
from protocols.errors import ParameterError
from protocols.ring import RingArray, encode

MODEL, DIMENSION = "4f3a", 8
RNG = np.random.default_rng(5)
Open = Callable[..., GalleryStore]

VERSION_1 = """
CREATE TABLE state (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            model TEXT NOT NULL,
            dimension INTEGER NOT NULL,
            kind TEXT NOT NULL,
            scope BLOB NOT NULL,
            lineage BLOB NOT NULL,
            generation INTEGER NOT NULL,
            photo_floor INTEGER NOT NULL,
            rotation BLOB,
            erasing INTEGER NOT NULL);
CREATE TABLE entry (
            row INTEGER PRIMARY KEY AUTOINCREMENT,
            identity BLOB NOT NULL,
            photo INTEGER NOT NULL,
            UNIQUE (identity, photo));
CREATE TABLE reservation (
            row INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
            generation INTEGER NOT NULL);
CREATE TABLE share_0 (
            row INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
            share BLOB NOT NULL,
            crc INTEGER NOT NULL);
CREATE TABLE share_1 (
            row INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
            share BLOB NOT NULL,
            crc INTEGER NOT NULL);
CREATE TABLE change (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            row INTEGER NOT NULL,
            added INTEGER NOT NULL);
PRAGMA application_id = 1751533361;
PRAGMA user_version = 1;
"""


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
        given = {"path": path, "model": MODEL, "dimension": DIMENSION, "kind": Kind.PRIVATE, "timeout": 0.2, **changes}
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
        with GalleryStore(path, MODEL, DIMENSION, Kind.PRIVATE, read_only) as gallery:
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
    with GalleryStore(tmp_path_factory.mktemp("any") / "g", MODEL, DIMENSION, Kind.LIST) as gallery:
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
        ([1, 2, 3, 4], "got row 4 which has none"),
        ([1, 2, 3, 9], "got row 9 which has none"),
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


def test_the_later_of_two_replacements_wins(begin: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "batch_rows", lambda dimension: 1)
    first, second = begin(), begin()
    first.enroll_many((name, random_share()) for name in ("a", "b", "c"))
    new = [(row, random_share()) for row in (1, 2, 3)]

    def slow() -> Iterator[tuple[int, RingArray]]:
        yield 1, random_share()
        second.replace_shares(new)
        yield 2, random_share()

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
    key, gallery, plain = GalleryKey(bytes(range(32))), begin(), begin(path=tmp_path / "list", kind=Kind.LIST)
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


@pytest.mark.parametrize(
    "changes", [{"model": "other"}, {"dimension": 9}, {"kind": Kind.LIST}, {"model": "other", "read_only": True}]
)
def test_a_store_of_something_else_is_refused(begin: Open, changes: dict[str, Any]) -> None:
    begin().close()
    with pytest.raises(StoreError, match=r"expected a gallery of \(model, dimension, kind\) .*, got 4f3a 8 private$"):
        begin(**changes)
    begin()


def test_what_is_no_store_is_refused(begin: Open, path: Path) -> None:
    with pytest.raises(StoreError, match="got no file or an empty one"):
        begin(read_only=True)
    path.touch()
    with pytest.raises(StoreError, match="got no file or an empty one"):
        begin()
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        begin()
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE entry (row)")
    other.close()
    with pytest.raises(StoreError, match="expected a gallery store, got another kind of file"):
        begin()
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError):
        begin()
    with pytest.raises(StoreError, match="No such file"):
        begin(path=path.parent / "nowhere" / "g.db")


def test_a_log_without_its_store_is_refused(begin: Open, path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"another store's")
    with pytest.raises(StoreError, match="expected no log beside a store that is not there"):
        begin()


def test_a_newer_version_is_refused(begin: Open, path: Path) -> None:
    begin().close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 3")
    database.close()
    with pytest.raises(StoreError, match="expected a store of version 2 or older, got version 3"):
        begin()


def test_an_older_version_is_migrated(begin: Open, path: Path) -> None:
    scope, value = bytes(range(16)), random_share()
    database = sqlite3.connect(path)
    database.executescript(VERSION_1)
    row = (1, MODEL, DIMENSION, "private", scope, bytes(16), 4, 6, None, 0)
    database.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    crc = zlib.crc32(scope + b"3 7 4 " + "Zoë".encode() + value.astype("<u8").tobytes())
    database.execute("INSERT INTO entry VALUES (3, ?, 7)", ("Zoë".encode(),))
    database.execute("INSERT INTO share_0 VALUES (3, ?, ?)", (value.astype("<u8").tobytes(), crc))
    database.execute("INSERT INTO change (row, added) VALUES (3, 1)")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match="expected a store of version 2, got 1; open it for writing once"):
        begin(read_only=True)
    gallery = begin()
    assert content(gallery) == [(Entry(3, "Zoë", 7, 4), value.tobytes())]
    assert gallery.enroll("Zoë", value) == Entry(4, "Zoë", 8, 4)
    assert gallery.remove("Zoë") == 2
    assert gallery.scope == scope
    columns = {name: [row[1] for row in _table(path, name)] for name in ("bucket", "query", "state")}
    gallery.close()
    fresh = begin(path=path.parent / "fresh")
    assert columns == {name: [row[1] for row in _table(fresh.path, name)] for name in columns}


def _table(path: Path, name: str) -> list[tuple[Any, ...]]:
    return sqlite3.connect(path).execute(f"PRAGMA table_info({name})").fetchall()


def _whole(path: Path) -> Any:
    """Return all that a store has, by every way to it."""
    with GalleryStore(path, MODEL, DIMENSION, Kind.PRIVATE, timeout=0.2) as gallery:
        names = gallery.identities()
        by_name = {name: [(e, s.tobytes()) for e, s in gallery.get(name)] for name in names}
        return names, by_name, content(gallery), gallery.generation, gallery.scope, gallery.count


def test_a_damaged_file_is_refused_or_read_right(begin: Open, path: Path, tmp_path: Path) -> None:
    gallery = begin()
    gallery.enroll_many((f"person {i}", random_share()) for i in range(150))
    gallery.remove("person 3")
    gallery.close()
    good, copy = path.read_bytes(), tmp_path / "copy"
    whole = _whole(path)
    refused = 0
    used = np.flatnonzero(np.frombuffer(good, np.uint8))  # most other bytes are the empty parts of pages
    for position in [*RNG.choice(used, 120), *range(0, 100, 3)]:
        bad = bytearray(good)
        bad[position] ^= 1 << int(RNG.integers(8))
        copy.write_bytes(bad)
        refused += 1
        with contextlib.suppress(StoreError):
            assert _whole(copy) == whole, f"byte {position}"
            refused -= 1
        for suffix in ("-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
    assert refused > 90
    for length in [1, 99, 100, 5000, 8192, *RNG.integers(8192, len(good), 10).tolist(), len(good) - 1]:
        copy.write_bytes(good[:length])
        with pytest.raises(StoreError):
            _whole(copy)


def test_export_and_import(begin: Open, path: Path, tmp_path: Path) -> None:
    gallery = begin()
    for name in IDENTITIES:
        gallery.enroll(name, random_share())
    gallery.remove("nul")
    gallery.replace_shares((entry.row, random_share()) for entry, _ in gallery.entries())
    highest = gallery.reserve("alice")
    exported, copy = tmp_path / "exported.jsonl", begin(path=tmp_path / "copy")
    assert gallery.export(exported) == len(IDENTITIES) - 1
    assert copy.import_(exported) == len(IDENTITIES) - 1
    assert content(copy) == content(gallery)
    assert (copy.scope, copy.generation) == (gallery.scope, 2)
    assert copy.lineage != gallery.lineage
    assert copy.changes_since(0).added.tolist() == [entry.row for entry, _ in gallery.entries()]
    new = copy.enroll("alice", random_share())  # what the original enrols from now on gets other numbers
    assert new.row > highest.row + 2**31
    assert new.photo > highest.photo + 2**31
    for target in (copy, gallery):
        with pytest.raises(StoreError, match="never used"):
            target.import_(exported)
    with pytest.raises(StoreError, match="expected a new file"):
        gallery.export(exported)
    again = begin(path=tmp_path / "again")
    copy.export(tmp_path / "second")
    assert again.import_(tmp_path / "second") == len(IDENTITIES)


def _damages(lines: list[bytes]) -> dict[str, list[bytes]]:
    header, photo = json.loads(lines[0]), json.loads(lines[1])

    def with_header(**changes: Any) -> list[bytes]:
        return [json.dumps(header | changes).encode() + b"\n", *lines[1:]]

    def with_photo(**changes: Any) -> list[bytes]:
        return [lines[0], json.dumps(photo | changes).encode() + b"\n", *lines[2:]]

    return {
        "nothing": [],
        "no json": [b"\xff\xfe\n"],
        "deep json": [b"[" * 4000 + b"\n"],
        "another format": with_header(format="other"),
        "another version": with_header(version=2),
        "another model": with_header(model="other"),
        "another kind": with_header(kind="list"),
        "more dimensions": with_header(dimension=9),
        "a number as text": with_header(generation="1"),
        "a negative number": with_header(last_row=-1),
        "fewer photos": with_header(photos=2),
        "more photos": with_header(photos=4),
        "another scope": with_header(scope="00" * 16),
        "no scope": with_header(scope="zz" * 16),
        "a short share": with_photo(share="AAAA"),
        "no base64": with_photo(share="?" * 88),
        "no row": with_photo(row=None),
        "another row": with_photo(row=2**63),
        "an empty name": with_photo(identity=""),
        "a surrogate": with_photo(identity="\ud800"),
        "another name": with_photo(identity="mallory"),
        "no last line": lines[:-1],
        "half a line": [*lines[:-2], lines[-2][:20]],
        "twice": [lines[0], lines[1], lines[1], lines[3], lines[-1]],
        "swapped": [lines[0], lines[2], lines[1], lines[3], lines[-1]],
        "something after": [*lines, b"{}\n"],
    }


def test_a_damaged_export_changes_nothing(begin: Open, tmp_path: Path) -> None:
    gallery = begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b", "c"))
    gallery.export(tmp_path / "good")
    target = begin(path=tmp_path / "target")
    before = target.scope
    for what, lines in _damages((tmp_path / "good").read_bytes().splitlines(keepends=True)).items():
        (tmp_path / "bad").write_bytes(b"".join(lines))
        with pytest.raises(StoreError) as caught:
            target.import_(tmp_path / "bad")
        assert (target.count, target.scope, target.generation) == (0, before, 1), what
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="No such file"):
        target.import_(tmp_path / "missing")
    assert target.import_(tmp_path / "good") == 3


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
