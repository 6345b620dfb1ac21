"""The server's gallery after kill -9 at every step, and with several processes at once.

A child process does an operation and kills itself before the n-th step: a statement to SQLite, or a call to the system
that touches files; for n = 1, 2, ... until it survives. What is then opened must be the state before or the one after.
"""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store import database, rotation, store, tables
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import RingArray

MODEL, DIMENSION = "m", 4
Shares = dict[str, list[list[int]]]
MOST_STEPS = 200


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here pulls the plug; a killed process loses nothing that it has handed to the system."""
    monkeypatch.setattr(database, "_SETTINGS", ("foreign_keys = ON", "secure_delete = ON", "synchronous = OFF"))


def value(seed: int) -> RingArray:
    return np.random.default_rng(seed).integers(0, 2**64, DIMENSION, dtype=np.uint64)


def gallery(folder: Path, **changes: Any) -> GalleryStore:
    return GalleryStore(folder / "g", MODEL, DIMENSION, GalleryKind.PRIVATE, **changes)


def state(folder: Path) -> tuple[Shares, int]:
    """Open the store in a folder; return its shares by identity, and the key's generation."""
    with gallery(folder) as opened:
        shares = {name: [share.tolist() for _, share in opened.get(name)] for name in opened.identities()}
        entries = [(entry.row, share.tolist()) for entry, share in opened.entries()]
        assert sorted(share for _, share in entries) == sorted(share for listed in shares.values() for share in listed)
        assert len(entries) == opened.count
        return shares, opened.generation


def files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.name.startswith("g"))


def before(folder: Path) -> None:
    """Make the store that most operations begin with."""
    with gallery(folder) as opened:
        opened.enroll_many((name, value(seed)) for seed, name in enumerate(["alice", "bob", "alice", "carol"]))


def killed_at(step: int, operation: Callable[[Path], None], folder: Path) -> bool:
    """Do an operation in a child that is killed before a step; whether it was, or finished first."""
    child = os.fork()
    if child == 0:
        try:
            _kill_before(step)
            operation(folder)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"step {step}: the child failed by itself"
    return code != 0


def _kill_before(step: int) -> None:
    """Let this process kill itself before its n-th step."""
    left = step

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            count()
            return call(*arguments, **options)

        return wrapped

    connect = sqlite3.connect

    def traced(path: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(path, *arguments, **options)
        if path != ":memory:":
            connection.set_trace_callback(count)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    for name in ("rename", "link", "unlink", "fsync", "open"):
        setattr(os, name, counted(getattr(os, name)))
    for module in (store, tables, rotation):
        module.batch_rows = lambda dimension: 2  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Case:
    """An operation, what it begins with, and the state after it."""

    operation: Callable[[Path], None]
    after: tuple[Shares, int]
    prepare: Callable[[Path], None] = before
    gone: bytes | None = None
    """What must not be in the files once the operation has begun to show."""


def create(folder: Path) -> None:
    gallery(folder).close()


def enroll(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.enroll("dora", value(9))


def reserve_and_commit(folder: Path) -> None:
    with gallery(folder) as opened:
        entry = opened.reserve("dora")
        (folder / "handed out").write_text(f"{entry.row} {entry.photo}")
        opened.commit(entry, value(9))


def remove(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.remove("alice")


def replace(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.replace_shares((entry.row, share + np.uint64(1)) for entry, share in opened.entries())


def import_(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.import_(folder / "exported")


def exported(folder: Path) -> None:
    before(folder)
    with gallery(folder) as opened:
        opened.export(folder / "exported")
    (folder / "g").unlink()
    create(folder)


def older_version(folder: Path) -> None:
    """Make a store of version 1."""
    before(folder)
    with sqlite3.connect(folder / "g") as connection:
        for statement in (
            "DROP TABLE bucket",
            "DROP TABLE query",
            "ALTER TABLE state DROP COLUMN salt",
            "ALTER TABLE state DROP COLUMN query_time",
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
    connection.close()


def left_half_done(folder: Path) -> None:
    """Make a store as it is after a crash: a reservation, and a replacement that was under way."""
    before(folder)
    with gallery(folder) as opened:
        opened.reserve("zoë")
        opened._tables.put_share(Entry(1, "alice", 1, 2), b"alice", bytes(8 * DIMENSION))


def lists(*seeds: int) -> list[list[int]]:
    return [value(seed).tolist() for seed in seeds]


BEFORE: Shares = {"alice": lists(0, 2), "bob": lists(1), "carol": lists(3)}
NEW_KEY = {name: [[(word + 1) % 2**64 for word in share] for share in shares] for name, shares in BEFORE.items()}
CASES = {
    "create": Case(create, ({}, 1), prepare=lambda folder: None),
    "enroll": Case(enroll, (BEFORE | {"dora": lists(9)}, 1)),
    "reserve and commit": Case(reserve_and_commit, (BEFORE | {"dora": lists(9)}, 1)),
    "remove": Case(remove, ({"bob": lists(1), "carol": lists(3)}, 1), gone=b"alice"),
    "replace": Case(replace, (NEW_KEY, 2), gone=value(0).tobytes()),
    "import": Case(import_, (BEFORE, 1), prepare=exported),
    "migrate": Case(create, (BEFORE, 1), prepare=older_version),
    "clean up": Case(create, (BEFORE, 1), prepare=left_half_done, gone="zoë".encode()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_crash_leaves_the_state_before_or_after(name: str, tmp_path: Path) -> None:
    case, base = CASES[name], tmp_path / "base"
    base.mkdir()
    case.prepare(base)
    start = ({}, 1) if name in ("create", "import") else (BEFORE, 1)
    seen, step, was_killed = [], 0, True
    while was_killed:
        step += 1
        assert step < MOST_STEPS
        folder = tmp_path / str(step)
        shutil.copytree(base, folder)
        was_killed = killed_at(step, case.operation, folder)
        found = state(folder)
        assert found in (start, case.after), f"step {step}"
        seen.append(found)
        left = files(folder)
        if found == case.after and case.gone:
            assert case.gone not in left, f"step {step}"
        assert case.after[0].get("dora") == found[0].get("dora") or b"dora" not in left, f"step {step}"
        assert not list(folder.glob("g-new*")), f"step {step}"
        if (folder / "handed out").exists():
            row, photo = map(int, (folder / "handed out").read_text().split())
            with gallery(folder) as opened:
                entry = opened.reserve("dora")
            assert entry.row > row, f"step {step}"
            assert entry.photo > photo, f"step {step}"
        shutil.rmtree(folder)
    assert step > 5
    assert seen[-1] == case.after
    after = seen.index(case.after)  # once it is done, it stays done
    assert all(found == case.after for found in seen[after:])


def test_a_killed_export_is_no_export(tmp_path: Path) -> None:
    before(tmp_path)

    def export(folder: Path) -> None:
        with gallery(folder) as opened:
            opened.export(folder / "exported")

    step = 1
    while killed_at(step, export, tmp_path):
        if (tmp_path / "exported").exists():  # complete, killed afterwards
            (tmp_path / "target").mkdir(exist_ok=True)
            shutil.rmtree(tmp_path / "target")
            (tmp_path / "target").mkdir()
            with gallery(tmp_path / "target") as target:
                assert target.import_(tmp_path / "exported") == 4
            (tmp_path / "exported").unlink()
        step += 1
    assert state(tmp_path) == (BEFORE, 1)
    assert not list(tmp_path.glob("exported?*"))


def test_a_crash_at_any_moment(tmp_path: Path) -> None:
    """Also within a statement: a child that does all operations, again and again, is killed at random moments."""

    def work() -> None:
        with gallery(tmp_path) as opened:
            for i in range(10**6):
                entry = opened.reserve(f"person {i % 5}")
                opened.commit(entry, value(entry.row * 100 + entry.generation))
                opened.replace_shares(
                    (old.row, value(old.row * 100 + old.generation + 1)) for old, _ in opened.entries()
                )
                opened.remove(f"person {(i + 3) % 5}")

    delays = np.random.default_rng(2).uniform(0.01, 0.12, 12)
    for delay in delays:
        child = in_child(work)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with gallery(tmp_path) as opened:
            for entry, share in opened.entries():
                assert np.array_equal(share, value(entry.row * 100 + entry.generation))
            assert sum(opened.identities().values()) == opened.count
    assert state(tmp_path)[1] > 3


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def test_two_processes_read_while_one_writes(tmp_path: Path) -> None:
    """What readers see is always whole, and never goes back: shares tell the rows that they were enrolled under."""
    gallery(tmp_path).close()
    total, deadline = 60, time.monotonic() + 60

    def read() -> None:
        last = 0
        with gallery(tmp_path, read_only=True) as opened:
            while last < total:
                assert time.monotonic() < deadline
                found = [(entry, share) for entry, share in opened.entries()]
                assert all(np.array_equal(share, value(entry.row)) for entry, share in found)
                assert [entry.row for entry, _ in found] == list(range(1, len(found) + 1))
                assert len(found) >= last
                last = len(found)

    readers = [in_child(read), in_child(read)]
    with gallery(tmp_path) as opened:
        while opened.count < total:
            if opened.count % 2:
                entry = opened.reserve("alice")
                opened.commit(entry, value(entry.row))
            else:
                opened.enroll_many([("bob", value(opened.count + 1))])
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in readers] == [0, 0]


def test_two_processes_write(tmp_path: Path) -> None:
    """Two that create the store together, and write to it, lose nothing and share no number."""

    def write() -> None:
        with gallery(tmp_path) as opened:
            for _ in range(25):
                entry = opened.reserve("alice")
                opened.commit(entry, value(1000 * entry.row + entry.photo))
                opened.enroll("bob", value(7))

    writers = [in_child(write), in_child(write)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in writers] == [0, 0]
    with gallery(tmp_path) as opened:
        assert opened.identities() == {"alice": 50, "bob": 50}
        for entry, share in opened.get("alice"):
            assert np.array_equal(share, value(1000 * entry.row + entry.photo))
        assert [entry.photo for entry, _ in opened.get("bob")] == list(range(1, 51))


def test_a_process_that_opens_for_long_is_not_waited_for_forever(tmp_path: Path) -> None:
    lock = database.WriterLock(tmp_path / "g", 0.1)
    assert lock.is_alone
    with pytest.raises(StoreError, match="another process held the store for 0.1 s"):
        gallery(tmp_path, timeout=0.1)
    lock.close()
    gallery(tmp_path, timeout=0.1).close()
