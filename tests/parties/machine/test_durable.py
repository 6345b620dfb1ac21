"""Tests of files that are there whole or not at all."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parties.machine.durable import PRIVATE, PUBLIC, append_durably, created, make_folder, replaced, write_durably


@pytest.fixture(params=["unnamed files", "temporary names"], autouse=True)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write on a file system that makes files without a name, and on one that does not."""
    opened = os.open

    def without(path: str, flags: int, *arguments: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no unnamed files")
        return opened(path, flags, *arguments)

    if request.param == "temporary names":
        monkeypatch.setattr(os, "open", without)
    return str(request.param)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record, in order, what reaches the disk and what takes a name."""
    done: list[str] = []

    def recorded(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def recording(*arguments: object, **options: Any) -> None:
            kind = stat.S_ISDIR(os.fstat(arguments[0]).st_mode) if isinstance(arguments[0], int) else None
            done.append({None: name, True: "sync folder", False: "sync file"}[kind])
            call(*arguments, **options)

        return recording

    for name in ("fsync", "replace", "link", "unlink"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    return done


def test_a_file_takes_its_name_when_it_is_on_the_disk(tmp_path: Path, steps: list[str]) -> None:
    path = tmp_path / "a"
    write_durably(path, b"one ", memoryview(b"two"))
    assert path.read_bytes() == b"one two"
    assert steps[0] == "sync file"
    assert "replace" in steps
    assert steps[-1] == "sync folder"


def test_a_new_file_takes_a_free_name_when_it_is_on_the_disk(tmp_path: Path, steps: list[str]) -> None:
    with created(tmp_path / "a") as file:
        file.write(b"one")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"one"
    assert steps[:2] == ["sync file", "link"]
    assert steps[-1] == "sync folder"
    with pytest.raises(FileExistsError), created(tmp_path / "a") as file:
        file.write(b"never")
    assert os.listdir(tmp_path) == ["a"]


def test_a_crash_leaves_nothing_behind(tmp_path: Path, file_system: str) -> None:
    """Where there are files without a name."""
    with created(tmp_path / "a") as file:
        file.write(b"one")
        file.flush()
        assert (os.listdir(tmp_path) == []) == (file_system == "unnamed files")


@pytest.mark.parametrize("write", [write_durably, lambda path, content: _created(path, content)])
def test_what_crashes_have_left_goes_with_the_next_writing(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    digits = "0123456789abcdef"
    kept = [f"a.{'0' * 16}.part", f"b.{digits}.part", f"a.{digits}x.part", f"a.{digits}.part.more", "a.part"]
    for name in (f"a.{digits}.part", *kept):
        (tmp_path / name).write_bytes(b"half")
        if name != kept[0]:  # which somebody may be writing now
            os.utime(tmp_path / name, (0, 0))
    write(tmp_path / "a", b"whole")
    assert set(os.listdir(tmp_path)) == {"a", *kept}


def test_a_name_that_another_takes_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), created(tmp_path / "a") as file:
        file.write(b"mine")
        (tmp_path / "a").write_bytes(b"another's")
    assert (tmp_path / "a").read_bytes() == b"another's"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replaced(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_private_file_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for name, mode in (("private", PRIVATE), ("public", PUBLIC)):
            with replaced(tmp_path / name, mode) as file:
                file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o666 & ~umask


def test_what_is_appended_reaches_the_disk(tmp_path: Path, steps: list[str]) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileNotFoundError):
        append_durably(path, b"one\n")
    path.write_bytes(b"one\n")
    append_durably(path, b"two\n")
    append_durably(path, b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert steps == ["sync file", "sync file"]


@pytest.mark.parametrize("write", [write_durably, lambda path, content: _created(path, content)])
def test_a_full_disk_is_told_with_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "a", b"content")
    assert caught.value.filename == str(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def _created(path: Path, content: bytes) -> None:
    with created(path) as file:
        file.write(content)


def test_folders_are_made_for_their_owner_and_reach_the_disk(tmp_path: Path, steps: list[str]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert steps == ["sync folder"] * 2
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o700}
    make_folder(tmp_path / "a" / "b")
    assert len(steps) == 2
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "c")


def test_a_pipe_is_not_appended_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(OSError, match="No such device"):
        append_durably(tmp_path / "a", b"content")
