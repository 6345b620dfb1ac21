"""Identification on a small set laid out as LFW is: fixed point and protocol against float64."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridface.errors import ImageError
from hybridface.measure.accuracy.ranking import RankOptions, rank
from hybridface.photos import photo_path
from support.ranks import Done

PEOPLE = {
    "Ann": ["person_a_1.jpg", "person_a_2.jpg"],
    "Bob": ["person_b_1.jpg", "person_b_2.jpg"],
    "Cy": ["impostor_1.jpg"],
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranking")
    for name, photos in PEOPLE.items():
        (root / "lfw" / name).mkdir(parents=True)
        for number, photo in enumerate(photos, 1):
            shutil.copy(photo_path(photo), root / "lfw" / name / f"{name}_{number:04d}.jpg")
    lines = ["1\t2", "Ann\t1\t2", "Bob\t1\t2", "Ann\t1\tCy\t1", "Bob\t1\tCy\t1"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.timeout(120)
def test_ranking(faces: Path, tmp_path: Path) -> None:
    options = RankOptions(faces / "lfw", faces / "pairs.txt", tmp_path, "patchnet", 0, 2, workers=1, shown=False)
    document = rank(options)
    assert (document["gallery"], document["probes"], document["probes in the protocol"]) == (3, 2, 2)
    assert document["rank-1 accuracy"] == document["rank-1 accuracy, emulated"] == 1.0
    assert document["nearest that differ from float64"] == 0
    assert document["outcomes of the protocol that differ from emulated"] == 0


def test_nobody_with_two_photos(call: Callable[..., Done], faces: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("1\t1\nAnn\t1\tBob\t1\nAnn\t1\tCy\t1\n")
    with pytest.raises(ImageError, match="people with two photos"):
        rank(RankOptions(faces / "lfw", pairs, tmp_path, "tiny-test", workers=1, shown=False))
    images = ["--images", str(faces / "lfw"), "--pairs", str(faces / "none.txt"), "--cache", "none"]
    status, out, errors = call("eval", "rank", *images)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    status, out, _ = call("eval", "rank", "--help")
    assert status == 0
    assert "--protocol" in out
