"""Ranges of comparisons on photos: those that cannot be read are told and counted, and the others measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridface.errors import ImageError
from hybridface.measure.accuracy.ranges import RangeOptions, ranges
from support.portraits import save_portraits
from support.ranks import Done

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portraits, and two files that are none."""
    folder = save_portraits(tmp_path_factory.mktemp("ranges")) / "faces"
    (folder / "Ann" / "bad.jpg").write_bytes(b"no photo")
    (folder / "Eve").mkdir()
    (folder / "Eve" / "empty.png").write_bytes(b"")
    return folder


def options(faces: Path, cache: Path, workers: int = 1) -> RangeOptions:
    return RangeOptions(faces, cache, "tiny-test", workers=workers, shown=False)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 2])
def test_photos_that_cannot_be_read_are_told_and_end_nothing(faces: Path, tmp_path: Path, workers: int) -> None:
    document = ranges(options(faces, tmp_path, workers))
    assert document["photos"] == 6
    assert sorted(document["unusable"]) == ["Ann/bad.jpg", "Eve/empty.png"]
    assert document["unusable"]["Ann/bad.jpg"].startswith("bad.jpg: ")
    assert ranges(options(faces, tmp_path)) == document, "from the cache, which has none of them"


def test_the_command_says_each(call: Callable[..., Done], faces: Path, tmp_path: Path) -> None:
    command = ["eval", "ranges", "--images", str(faces), "--model", "tiny-test", "--workers", "1", "--quiet"]
    status, out, _ = call(*command, "--cache", str(tmp_path))
    assert status == 0
    told = " ".join(out.split())
    assert "2 photos could not be read not used: Ann/bad.jpg: " in told
    assert "not used: Eve/empty.png: " in told
    status, out, _ = call(*command, "--cache", str(tmp_path), "--json")
    assert len(json.loads(out)["unusable"]) == 2


def test_without_a_photo_there_is_nothing_to_measure(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "bad.jpg").write_bytes(b"no photo")
    with pytest.raises(ImageError, match="faces: expected photos that can be read, found none: bad.jpg: "):
        ranges(options(tmp_path / "faces", tmp_path / "cache"))
