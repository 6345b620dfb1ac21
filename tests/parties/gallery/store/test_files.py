"""The gallery's file and its exports: what is another's, older, or damaged; and carrying a gallery elsewhere."""

import contextlib
import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import QueryLimitError, StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store import database
from parties.gallery.store.limits import EVERYONE, QueryLimits
from parties.gallery.store.records import Entry
from parties.gallery.store.schema import VERSION
from parties.gallery.store.store import GalleryStore, header_of
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


def test_a_lock_that_is_no_file_is_named(begin: Open, path: Path) -> None:
    begin().close()
    lock = path.with_name(f"{path.name}-lock")
    lock.unlink()
    lock.symlink_to("elsewhere")
    with pytest.raises(
        StoreError, match=r"db-lock: cannot lock the store .*\.db: expected a file to lock, got a symbol"
    ):
        begin()


def test_a_log_without_its_store_is_refused(begin: Open, path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"another store's")
    with pytest.raises(StoreError, match="expected no log beside a store that is not there"):
        begin()


def test_a_newer_version_is_refused(begin: Open, path: Path) -> None:
    begin().close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(StoreError, match=f"expected a store of version {VERSION} or older, got version {VERSION + 1}"):
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
    with begin(read_only=True) as reader:
        assert content(reader) == [(Entry(3, "Zoë", 7, 4), value.tobytes())]
        assert (reader.identities(), reader.database.version) == ({"Zoë": 1}, 1)
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
        return names, by_name, content(gallery), gallery.generation, gallery.scope, gallery.count, _tables(gallery)


def _tables(gallery: GalleryStore) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables."""
    tables = ("state", "entry", "reservation", "share_0", "share_1", "change", "bucket", "query", "sqlite_sequence")
    return {
        table: sorted(gallery.database.rows(f"SELECT * FROM {table}"), key=repr)  # noqa: S608
        for table in tables
    }


def _ask(gallery: GalleryStore) -> None:
    """Have some queries in the log, and their buckets."""
    with QueryLimits(gallery.database, clock=lambda: 1e9) as limits:
        for i in range(20):
            limits.admit("client", "verify", f"person {i}")
        limits.admit("client", "identify", EVERYONE)


@pytest.mark.slow
def test_a_damaged_file_is_refused_or_read_right(begin: Open, path: Path, tmp_path: Path) -> None:
    gallery = begin()
    gallery.enroll_many((f"person {i}", random_share()) for i in range(150))
    gallery.remove("person 3")
    gallery.reserve("person 4")
    _ask(gallery)
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


def _use_all(path: Path) -> None:
    """Use a store in every way."""
    with GalleryStore(path, MODEL, DIMENSION, GalleryKind.PRIVATE, timeout=0.2) as gallery:
        assert list(gallery.entries())
        assert gallery.identities()
        gallery.get("alice")
        gallery.listing(0)
        gallery.export(path.with_name("exported"))
        path.with_name("exported").unlink()
        gallery.commit(gallery.reserve("bob"), random_share())
        gallery.replace_shares((entry.row, share) for entry, share in gallery.entries())
        with QueryLimits(gallery.database, clock=lambda: 1e9) as limits:
            limits.admit("client", "verify", "person 7")
            limits.queries()
            limits.reset("client", "alice")
        assert len(gallery.lineage) == 16
        gallery.remove("alice")


@pytest.mark.slow
@pytest.mark.parametrize("value", ["1", "'x'", "x'00'", "0.5", "-1", "9223372036854775807", "x'ff'"])
def test_values_of_other_types_are_one_error(begin: Open, path: Path, tmp_path: Path, value: str) -> None:
    """SQLite keeps any value in any column; whoever reads one must not fall over it."""
    gallery = begin()
    gallery.enroll("alice", random_share())
    _ask(gallery)
    gallery.reserve("bob")
    gallery.close()
    copy = tmp_path / "copy"
    for table in ("state", "entry", "reservation", "share_1", "change", "bucket", "query", "sqlite_sequence"):
        for _, column, *_ in _table(path, table):
            for suffix in ("", "-wal", "-shm"):
                Path(f"{copy}{suffix}").unlink(missing_ok=True)
            copy.write_bytes(path.read_bytes())
            database = sqlite3.connect(copy)
            with contextlib.suppress(sqlite3.Error):
                database.execute(f"UPDATE {table} SET {column} = {value}")  # noqa: S608
            database.commit()
            database.close()
            with contextlib.suppress(StoreError, QueryLimitError):
                _use_all(copy)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_READONLY])
def test_where_nothing_can_be_written_a_store_is_read(
    begin: Open, path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """SQLite writes a file beside the store even to read it; on a disk that is full or read-only it cannot."""
    gallery = begin()
    gallery.enroll("alice", random_share())
    gallery.close()
    before, connect = path.read_bytes(), sqlite3.connect

    def refused(name: Any, **options: Any) -> Any:
        if "mode=rw" in str(name):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = code
            raise error
        return connect(name, **options)

    monkeypatch.setattr(sqlite3, "connect", refused)
    with begin(read_only=True) as reader:
        assert reader.identities() == {"alice": 1}
        with pytest.raises(StoreError, match="readonly"):
            reader.enroll("bob", random_share())
    assert header_of(path).count == 1
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match=r"staff gallery\?#%\.db: .*unable to open database file"):
        begin()
    Path(f"{path}-wal").write_bytes(b"what is not in the file yet")
    with pytest.raises(StoreError, match="got one with a log beside it, which cannot be read"):
        begin(read_only=True)


def test_a_counter_that_went_back_is_noticed(begin: Open, path: Path) -> None:
    """Else a row's number would be used again, and with it the mask of a template."""
    gallery = begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b"))
    gallery.remove("b")
    gallery.close()
    for table, number in (("entry", 1), ("change", 2)):
        with sqlite3.connect(path) as database:
            (before,) = database.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
            database.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (number, table))
        with pytest.raises(StoreError, match="expected counters above all numbers that were used"):
            begin()
        with sqlite3.connect(path) as database:
            database.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (before, table))
        database.close()


@pytest.mark.parametrize("change", ["DELETE FROM change WHERE row = 1", "UPDATE change SET added = 0 WHERE row = 1"])
def test_changes_that_do_not_lead_to_the_photos_are_noticed(begin: Open, path: Path, change: str) -> None:
    gallery = begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b"))
    gallery.close()
    with sqlite3.connect(path) as database:
        database.execute(change)
    database.close()
    with pytest.raises(StoreError, match="expected the changes of the enrolled photos, got others"):
        begin()


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
        "no ASCII": with_photo(share="é" * 88),
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
        with pytest.raises(StoreError, match="^bad: ") as caught:
            target.import_(tmp_path / "bad")
        assert (target.count, target.scope, target.generation) == (0, before, 1), what
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="^missing: cannot use the file: No such file"):
        target.import_(tmp_path / "missing")
    assert target.import_(tmp_path / "good") == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"photo": 1, "identity": "a"}, "expected each photo of a person once, got photo 1 twice"),
        ({"row": True}, "expected a photo's line, got one that is damaged"),
        ({"photo": True}, "expected a photo's line, got one that is damaged"),
        ({"photo": 1.0}, "expected a photo's line, got one that is damaged"),
        ({"photo": 2**63 - 1}, "expected numbers of rows and photos that leave room for more, got others"),
    ],
)
def test_an_export_that_another_program_made(begin: Open, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Its digest is right; the error is the file's all the same, not the gallery's."""
    gallery = begin()
    gallery.enroll_many((name, random_share()) for name in ("a", "b"))
    gallery.export(tmp_path / "good")
    lines = (tmp_path / "good").read_bytes().splitlines(keepends=True)
    changed = 1 if "row" in change else 2
    lines[changed] = json.dumps(json.loads(lines[changed]) | change).encode() + b"\n"
    lines[-1] = json.dumps({"sha256": hashlib.sha256(b"".join(lines[:-1])).hexdigest()}).encode() + b"\n"
    (tmp_path / "bad").write_bytes(b"".join(lines))
    target = begin(path=tmp_path / "target")
    with pytest.raises(StoreError, match=f"^bad: {said}$"):
        target.import_(tmp_path / "bad")
    assert target.count == 0


def test_an_export_that_cannot_be_written_is_named(begin: Open, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^out\.jsonl: cannot write the export: No such file or directory$"):
        begin().export(tmp_path / "nowhere" / "out.jsonl")
