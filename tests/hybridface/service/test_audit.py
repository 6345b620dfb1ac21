"""The audit log: whole lines of known fields, for the owner alone, or an error."""

import errno
import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hybridface.errors import RunError
from hybridface.service import audit
from hybridface.service.audit import FIELDS, AuditLog
from parties.machine.locks import locked

EVERYTHING: dict[str, Any] = {
    "event": "session ended",
    "client": "door-1",
    "peer": "ed25519-00",
    "session": "5f",
    "model": "tiny-test",
    "gallery": None,
    "operation": "gallery-verify",
    "outcome": "answered",
    "bytes_in": 1 << 40,
    "bytes_out": 0,
    "seconds": 0.25,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_time_and_all_fields_in_their_order(path: Path) -> None:
    assert set(EVERYTHING) == set(FIELDS)
    AuditLog(path).write(**dict(reversed(EVERYTHING.items())))
    (line,) = lines(path)
    written = datetime.fromisoformat(line.pop("time"))
    assert written.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert list(line.items()) == [(name, EVERYTHING[name]) for name in FIELDS]


def test_lines_follow_each_other(path: Path) -> None:
    log, other = AuditLog(path), AuditLog(path)
    for number, one in enumerate((log, other, log)):
        one.write(event="command", session=str(number))
    assert [line["session"] for line in lines(path)] == ["0", "1", "2"]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("name", ["identity", "decision", "score", "photo", "time", "person", ""])
def test_other_fields_are_an_error_of_the_program(path: Path, name: str) -> None:
    with pytest.raises(TypeError, match="^expected fields of the audit log"):
        AuditLog(path).write(**{"event": "command", name: "x"})
    assert not path.exists()


@pytest.mark.parametrize("value", [b"share", ["a"], {"a": 1}, Path("x")], ids=repr)
def test_other_values_are_an_error_of_the_program(path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="got another operation"):
        AuditLog(path).write(event="command", operation=value)
    with pytest.raises(TypeError, match="got no event"):
        AuditLog(path).write(operation="verify")
    assert not path.exists()


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", '"}', "\u2028", "\ud800"])
def test_a_text_stays_within_its_line(path: Path, text: str) -> None:
    AuditLog(path).write(event="refused", client=text)
    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 1
    assert lines(path)[0]["client"] == text


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        AuditLog(path).write(event="command")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    with pytest.raises(RunError, match=r"^cannot write the audit log .*expected a file for its owner alone.*chmod 600"):
        AuditLog(path).write(event="command")
    assert path.read_bytes() == b""


def test_a_file_that_was_moved_is_begun_anew(path: Path) -> None:
    log = AuditLog(path)
    log.write(event="command", session="1")
    moved = path.rename(path.with_suffix(".1"))
    log.write(event="command", session="2")
    assert [[line["session"] for line in lines(one)] for one in (moved, path)] == [["1"], ["2"]]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_line_that_cannot_be_written_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def write(descriptor: int, line: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(audit.os, "write", write)
    with pytest.raises(RunError, match=f"^cannot write the audit log .*: {os.strerror(number)}; no session is served$"):
        AuditLog(path).write(event="command")


def test_a_part_of_a_line_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that is almost full, the system may write a part."""
    log, write = AuditLog(path), os.write
    log.write(event="command", session="1")
    with monkeypatch.context() as patched, pytest.raises(RunError, match="No space left on device"):
        patched.setattr(audit.os, "write", lambda descriptor, line: write(descriptor, line[:10]))
        log.write(event="command", session="2")
    log.write(event="command", session="3")
    assert [line["session"] for line in lines(path)] == ["1", "3"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "no folder"])
def test_what_is_no_file_is_an_error_and_nothing_waits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit.jsonl"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path, 0o600)
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path = tmp_path / "missing" / "audit.jsonl"
    with pytest.raises(RunError, match="^cannot write the audit log .*; no session is served$"):
        AuditLog(path).write(event="command")
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_nobody_gives_up_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_LOCK_SECONDS", 0.05)
    with locked(path, "the audit log"), pytest.raises(RunError, match="expected the lock of the audit log within 0.05"):
        AuditLog(path).write(event="command")
    assert path.read_bytes() == b""


def append_many(path: Path, name: str, count: int) -> None:
    for _ in range(count):
        AuditLog(path).write(event="command", client=name * 500)


@pytest.mark.slow
def test_processes_that_append_at_once_spoil_no_line(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(path, name, 100)) for name in "abc"]
    for one in processes:
        one.start()
    for one in processes:
        one.join(60)
        assert one.exitcode == 0
    assert sorted(line["client"][0] for line in lines(path)) == sorted("abc" * 100)
