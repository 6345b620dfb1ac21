"""Walking through folders that others change: what is gone is left out, and raises nothing."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from parties.machine import walks
from parties.machine.walks import changed_at, entries_of, files_below, size_of


def test_what_is_there(tmp_path: Path) -> None:
    for name in ("b/two", "b/one", "a", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert [path.name for path in entries_of(tmp_path)] == ["a", "b", "c", "dangling", "loop"]
    found = [(path.relative_to(tmp_path).as_posix(), status.st_size) for path, status in files_below(tmp_path)]
    assert found == [("a", 1), ("b/one", 5), ("b/two", 5), ("c", 1)]
    assert size_of(tmp_path / "b" / "one") == 5
    os.utime(tmp_path / "a", (0, 1234.5))
    assert changed_at(tmp_path / "a") == 1234.5


def test_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for missing in (tmp_path / "none", tmp_path / "file", tmp_path / "file" / "none"):
        assert entries_of(missing) == []
        assert list(files_below(missing)) == []
    assert (size_of(tmp_path / "none"), changed_at(tmp_path / "file" / "none")) == (0, 0.0)


@pytest.mark.parametrize("walk", [entries_of, lambda folder: list(files_below(folder))])
def test_a_folder_that_comes_and_goes(tmp_path: Path, walk: Callable[[Path], object]) -> None:
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            (tmp_path / "in" / "deep").mkdir(parents=True)
            (tmp_path / "in" / "deep" / "file").touch()
            shutil.rmtree(tmp_path / "in")

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(300):
            walk(tmp_path / "in")
    finally:
        done.set()
        other.join()


def test_a_file_that_goes_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(walks.os, "listdir", lambda folder: ["file", "gone"])
    assert [path.name for path, _ in files_below(tmp_path)] == ["file"]
