"""Tests of the locks between processes; another descriptor is as good as another process."""

from pathlib import Path

import pytest

from parties.machine.locks import FileLock, locked


@pytest.fixture(params=["file", "folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return what is locked: a file that is not there yet, or a folder."""
    return tmp_path / "lock" if request.param == "file" else tmp_path


def test_one_holds_it_alone_or_many_share_it(path: Path) -> None:
    first, second = FileLock(path, "a thing"), FileLock(path, "a thing")
    assert first.try_take()
    assert not second.try_take()
    assert not second.try_take(shared=True)
    assert first.try_take(shared=True), "who holds it alone may share it"
    assert second.try_take(shared=True)
    assert not first.try_take(), "nor has it alone while another shares it"
    second.close()
    assert first.try_take()
    first.close()
    first.close()


def test_it_is_given_up_after_a_time(path: Path) -> None:
    with locked(path, "a thing"), pytest.raises(TimeoutError, match=r"^expected the lock of a thing within 0\.01 s$"):
        with locked(path, "a thing", seconds=0.01):
            pytest.fail("held twice")
    with locked(path, "a thing", seconds=0.0), pytest.raises(TimeoutError), locked(path, "a thing", True, 0.0):
        pytest.fail("held and shared")


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="expected a file to lock, got a symbolic link") as caught:
        FileLock(tmp_path / "link", "a thing")
    assert caught.value.filename == str(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()
