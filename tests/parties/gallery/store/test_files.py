"""The gallery's file and its exports: what is another's, older, or damaged; and carrying a gallery elsewhere."""

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store import database
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import RingArray

MODEL, DIMENSION = "4f3a", 8
RNG = np.random.default_rng(5)
Open = Callable[..., GalleryStore]

NAMES = ["nul", "nul\0inside", "'; DROP TABLE entry; --", "alice", "line\nbreak", "🙂" * 10_000]

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


@pytest.mark.parametrize(
    "changes", [{"model": "other"}, {"dimension": 9}, {"kind": GalleryKind.LIST}, {"model": "other", "read_only": True}]
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
        database.execute("PRAGMA user_version = 4")
    database.close()
    with pytest.raises(StoreError, match="expected a store of version 3 or older, got version 4"):
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
    with pytest.raises(StoreError, match="expected a store of version 3, got 1; open it for writing once"):
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
    with GalleryStore(path, MODEL, DIMENSION, GalleryKind.PRIVATE, timeout=0.2) as gallery:
        names = gallery.identities()
        by_name = {name: [(e, s.tobytes()) for e, s in gallery.get(name)] for name in names}
        return names, by_name, content(gallery), gallery.generation, gallery.scope, gallery.count


@pytest.mark.slow
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
    for name in NAMES:
        gallery.enroll(name, random_share())
    gallery.remove("nul")
    gallery.replace_shares((entry.row, random_share()) for entry, _ in gallery.entries())
    highest = gallery.reserve("alice")
    exported, copy = tmp_path / "exported.jsonl", begin(path=tmp_path / "copy")
    assert gallery.export(exported) == len(NAMES) - 1
    assert copy.import_(exported) == len(NAMES) - 1
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
    assert again.import_(tmp_path / "second") == len(NAMES)


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
