"""The server's gallery after a crash or a power cut at every step, and with several processes at once.

An operation is recorded once; of every prefix of its calls, what a kill and what a power cut would leave is opened: it
must be the state before or the one after (see `support.crashes`).
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parties.gallery.errors import StoreError
from parties.gallery.store import database
from support.crashes.disk import crashes, record_calls
from support.crashes.gallery import CASES, gallery, state, value


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded waits for the disk as it should; what looks at it afterwards need not."""
    monkeypatch.setattr(database, "_SETTINGS", ("foreign_keys = ON", "secure_delete = ON", "synchronous = OFF"))


def files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.name.startswith("g"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_crash_leaves_the_state_before_or_after(name: str, tmp_path: Path) -> None:
    case, base, folder = CASES[name], tmp_path / "base", tmp_path / "left"
    base.mkdir()
    case.prepare(base)
    disk, calls = record_calls(base, "support.crashes.gallery", name)
    states = 0
    for count, cut, left, marks in crashes(disk, calls):
        where = f"{cut} after {count} calls, the last one {calls[count - 1] if count else 'none'}"
        left.write(cut, base, folder)
        found = state(folder)
        assert found in (case.start, case.after), where
        if "done" in marks:
            assert found == case.after, f"lost by a {where}"
        content = files(folder)
        if found == case.after and case.gone:
            assert case.gone not in content, where
        assert case.after[0].get("dora") == found[0].get("dora") or b"dora" not in content, where
        assert not list(folder.glob("g-new*")), where
        for mark in marks:
            if mark.startswith("handed out"):
                row, photo = map(int, mark.split()[2:])
                with gallery(folder) as opened:
                    entry = opened.reserve("dora")
                assert entry.row > row, where
                assert entry.photo > photo, where
        if (folder / "exported").exists() and name == "export":
            (folder / "target").mkdir()
            with gallery(folder / "target") as target:
                assert target.import_(folder / "exported") == 4, where
        shutil.rmtree(folder)
        states += 1
    assert {call.kind for call in calls} >= {"write", "sync", "mark"}
    assert states > 10


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


@pytest.mark.slow
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


@pytest.mark.slow
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
