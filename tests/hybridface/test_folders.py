"""Temporary folders: removed at the end, and those that killed commands have left by a later command."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from hybridface.folders import temporary_folder
from parties.machine.locks import locked


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make temporary folders here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(path: Path, hours: float, mark: str = ".hybridface-temporary") -> Path:
    """Make a folder as a command that was killed so long ago has left it."""
    path.mkdir()
    (path / mark).touch()
    (path / "0.png").write_bytes(b"a photo")
    os.utime(path, (time.time() - 3600 * hours,) * 2)
    return path


def test_a_folder_is_gone_at_the_end(parent: Path) -> None:
    with temporary_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "0.png").write_bytes(b"a photo")
    assert not list(parent.iterdir())


def test_what_a_killed_command_has_left_goes(parent: Path) -> None:
    left(parent / "hybridface-0123abc_", 2)
    with temporary_folder() as folder:
        assert list(parent.iterdir()) == [folder]


def test_what_may_be_in_use_or_is_not_ours_stays(parent: Path) -> None:
    others = [left(parent / "other-01234567", 2), left(parent / "hybridface-upstream", 2, "README.md")]
    fresh, used = left(parent / "hybridface-fresh_01", 0.5), left(parent / "hybridface-01234567", 2)
    link = parent / "hybridface-76543210"
    link.symlink_to(others[0])
    os.utime(link, (0, 0), follow_symlinks=False)
    with locked(used, "a temporary folder"), temporary_folder():
        pass
    assert {path for path in parent.iterdir() if (path / "0.png").exists()} >= {*others, fresh, used}
    with temporary_folder():
        assert not used.exists(), "nobody holds it any more"
