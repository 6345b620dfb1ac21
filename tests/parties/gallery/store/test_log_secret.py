"""The key of the log lies beside the gallery and not in it; older files are brought to that, and keep their log."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store import log_secret as module
from parties.gallery.store.database import Database
from parties.gallery.store.limits import EVERYONE, OPERATOR, QueryLimits
from parties.gallery.store.log_secret import identity_tag, log_secret, secret_path
from parties.gallery.store.schema import migrate
from parties.gallery.store.store import GalleryStore

SALT = bytes(range(32))


def opened(path: Path) -> GalleryStore:
    return GalleryStore(path, "m", 4, GalleryKind.PRIVATE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


@pytest.fixture
def older(path: Path) -> Path:
    """A gallery of version 2, whose log says, under a salt in the file, that somebody asked about Ann."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        migrate(file, 0, 2)
        file.execute(
            "INSERT INTO state VALUES (1, 'm', 4, 'private', ?, ?, 1, 0, NULL, 0, ?, 0)", (bytes(16), bytes(16), SALT)
        )
        line = (1.0, "door", "verify", identity_tag(SALT, b"Ann"), 1)
        file.execute("INSERT INTO query (time, client, operation, tag, allowed) VALUES (?, ?, ?, ?, ?)", line)
    return path


def test_the_gallerys_file_alone_says_nothing_of_names_that_are_guessed(path: Path) -> None:
    with opened(path) as store, QueryLimits(store.database) as limits:
        store.enroll("Ann", np.zeros(4, np.uint64))
        limits.log("door", "verify", "Bob", True)
    secret = secret_path(path)
    assert secret.stat().st_mode & 0o777 == 0o600
    key = secret.read_bytes()
    with QueryLimits(path) as limits:
        assert limits.queries()[-1].tag == limits.tag("Bob") == identity_tag(key, b"Bob")
    others = [file.read_bytes() for file in path.parent.iterdir() if file != secret]
    assert not any(key in content for content in others)


def test_an_older_file_gives_its_key_away(older: Path) -> None:
    with opened(older):
        pass
    assert secret_path(older).read_bytes() == SALT
    assert secret_path(older).stat().st_mode & 0o777 == 0o600
    others = [file.read_bytes() for file in older.parent.iterdir() if file != secret_path(older)]
    assert not any(SALT in content for content in others), "not even where SQLite has deleted it"
    with QueryLimits(older) as limits:
        assert [line.client for line in limits.queries("Ann")] == ["door"], "the log is the same"


def test_the_log_of_an_older_file_can_be_read_at_once(older: Path) -> None:
    with QueryLimits(older) as limits:
        assert [line.client for line in limits.queries("Ann")] == ["door"]
    assert secret_path(older).read_bytes() == SALT


def test_an_older_file_stays_as_it_is_if_its_key_cannot_be_written(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "keep_secret", full)
        with pytest.raises(StoreError, match="No space left on device"):
            opened(older)
    assert not secret_path(older).exists()
    with closing(sqlite3.connect(older)) as file:
        assert file.execute("SELECT salt FROM state").fetchall() == [(SALT,)]
        assert file.execute("PRAGMA user_version").fetchone() == (2,)
    opened(older).close()
    assert secret_path(older).read_bytes() == SALT


def test_a_stale_key_is_not_taken_for_the_older_files(older: Path) -> None:
    secret_path(older).write_bytes(bytes(range(1, 33)))
    with opened(older), QueryLimits(older) as limits:
        assert limits.queries("Ann") == []
        assert [line.tag for line in limits.queries()] == [None]


def test_without_its_key_a_log_forgets_its_names_and_goes_on(path: Path) -> None:
    with opened(path), QueryLimits(path) as limits:
        limits.admit("door", "verify", "Ann")
        limits.admit("door", "identify", EVERYONE)
        kept = limits.tag("Ann")
    secret_path(path).unlink()
    with QueryLimits(path) as limits:
        assert [line.client for line in limits.queries()] == ["door", "door"]
        assert limits.tag("Ann") not in (None, kept)
        assert [line.tag for line in limits.queries()] == [None, None]
        limits.log(OPERATOR, "remove", "Ann", True)
    with QueryLimits(path) as limits:
        assert [line.client for line in limits.queries("Ann")] == [OPERATOR], "the new key stays"
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM bucket").fetchone() == (1,), "that of identifications"


ASKING: dict[str, Callable[[QueryLimits], object]] = {
    "admit": lambda limits: limits.admit("door", "verify", "Ann"),
    "take": lambda limits: limits.take("door", "Ann"),
    "log": lambda limits: limits.log("door", "enrol", "Ann", True),
    "reset": lambda limits: limits.reset("door", "Ann"),
}


@pytest.mark.parametrize("ask", ASKING)
def test_a_server_that_runs_takes_up_the_key_that_another_process_drew(path: Path, ask: str) -> None:
    """Else what it hashes from then on would not be found, and stay, when the identity is removed."""
    with opened(path) as store, QueryLimits(path) as server:
        server.admit("door", "verify", "Ann")
        lost = server.tag("Ann")
        secret_path(path).unlink()
        with QueryLimits(path) as operator:
            operator.log(OPERATOR, "export", "Bob", True)
        ASKING[ask](server)
        assert server.tag("Ann") == identity_tag(log_secret(path), b"Ann") != lost
        store.remove("Ann")
        assert [line.tag for line in server.queries() if line.tag] == [server.tag("Bob")]
        assert store.database.number("SELECT count(*) FROM bucket WHERE length(tag) = 16") == 0


def test_a_removal_forgets_what_a_lost_key_has_hashed(path: Path) -> None:
    with opened(path) as store, QueryLimits(path) as limits:
        limits.admit("door", "verify", "Ann")
        tag = limits.tag("Ann") or b""
        secret_path(path).unlink()
        store.remove("Ann")
        assert [line.tag for line in limits.queries()] == [None]
        assert store.database.number("SELECT count(*) FROM bucket WHERE length(tag) = 16") == 0
    assert not any(tag in file.read_bytes() for file in path.parent.iterdir())


def test_a_key_is_read_again_only_if_the_gallery_has_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path), QueryLimits(path) as limits:
        limits.admit("door", "verify", "Ann")
        monkeypatch.setattr(module, "log_secret", lambda gallery: pytest.fail("expected the key that is known"))
        limits.admit("door", "verify", "Ann")


@pytest.mark.parametrize("content", [b"", bytes(32), b"x" * 33])
def test_a_damaged_key_is_told(path: Path, content: bytes) -> None:
    opened(path).close()
    secret_path(path).write_bytes(content)
    with QueryLimits(path) as limits, pytest.raises(StoreError, match="gallery.db.logkey: cannot use the log's key"):
        limits.tag("Ann")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_key_that_is_no_file_is_told(path: Path, make: Callable[[Path], None]) -> None:
    opened(path).close()
    make(secret_path(path))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError, match="gallery.db.logkey: cannot use the log's key: expected a plain file"):
        log_secret(path)
    assert len(os.listdir("/proc/self/fd")) == before, "it is left open"


def test_the_log_is_read_without_a_key(path: Path) -> None:
    with opened(path), QueryLimits(path) as limits:
        limits.log(OPERATOR, "export", EVERYONE, True)
        assert len(limits.queries()) == 1
    assert not secret_path(path).exists()


@pytest.mark.parametrize("lies_there", [False, True])
def test_a_log_without_names_is_read_with_and_without_a_key(path: Path, lies_there: bool) -> None:
    """Nobody was asked about, so no line is about anybody; the reader makes no key."""
    with opened(path), QueryLimits(path) as limits:
        limits.log(OPERATOR, "export", EVERYONE, True)
    if lies_there:
        secret_path(path).write_bytes(SALT)
    with closing(Database(path, read_only=True)) as database, QueryLimits(database) as limits:
        assert limits.queries("Ann") == []
        assert limits.tag("Ann") not in [line.tag for line in limits.queries()]
    assert secret_path(path).exists() is lies_there


@pytest.mark.parametrize("key", [None, SALT], ids=["lost", "another"])
def test_a_reader_says_that_the_key_is_lost_or_another(path: Path, key: bytes | None) -> None:
    """Else it would say that nobody has asked about Ann."""
    with opened(path), QueryLimits(path) as limits:
        limits.log("door", "verify", "Ann", True)
    right = secret_path(path).read_bytes()
    with closing(Database(path, read_only=True)) as database, QueryLimits(database) as limits:
        assert [line.client for line in limits.queries("Ann")] == ["door"]
        secret_path(path).unlink()
        if key:
            secret_path(path).write_bytes(key)
        with pytest.raises(StoreError, match="gallery.db.logkey: expected the key under which"):
            limits.queries("Ann")
        assert secret_path(path).exists() is (key is not None), "a reader makes no key"
        secret_path(path).write_bytes(right)
        assert [line.client for line in limits.queries("Ann")] == ["door"]


def test_a_reader_tells_of_a_damaged_key(path: Path) -> None:
    with opened(path), QueryLimits(path) as limits:
        limits.log("door", "verify", "Ann", True)
    secret_path(path).write_bytes(bytes(32))
    with (
        closing(Database(path, read_only=True)) as database,
        QueryLimits(database) as limits,
        pytest.raises(StoreError, match="gallery.db.logkey: cannot use the log's key: expected 32 random bytes"),
    ):
        limits.queries("Ann")


def test_a_removal_takes_the_hashes_along(path: Path) -> None:
    with opened(path) as store, QueryLimits(path) as limits:
        limits.log("door", "verify", "Ann", True)
        tag = limits.tag("Ann")
        store.remove("Ann")
        assert limits.queries("Ann") == []
    assert tag is not None
    assert not any(tag in file.read_bytes() for file in path.parent.iterdir())
