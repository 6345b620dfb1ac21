"""Identification on a small set laid out as LFW is: fixed point and protocol against float64."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hybridface.errors import ImageError
from hybridface.faces.alignment import Aligned
from hybridface.measure.accuracy import ranking
from hybridface.measure.accuracy.embeddings import Arithmetic
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


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ranking(faces: Path, tmp_path: Path) -> None:
    options = RankOptions(faces / "lfw", faces / "pairs.txt", tmp_path, "patchnet", 0, 2, workers=1, shown=False)
    document = rank(options)
    assert (document["gallery"], document["probes"], document["probes in the protocol"]) == (3, 2, 2)
    assert document["rank-1 accuracy"] == document["rank-1 accuracy, emulated"] == 1.0
    assert document["nearest that differ from float64"] == document["outcomes with the threshold that differ"] == 0
    assert document["outcomes of the protocol that differ from emulated"] == 0


def test_who_is_found_is_under_the_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tiny-test it is 0.6: one probe is under it, one over it by its square, one only in fixed point."""
    lines = ["1\t2", "A\t1\t2", "B\t1\t2", "C\t1\t2", "A\t1\tB\t1"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    photos = [f"{name}/{name}_{number:04d}.jpg" for name in "ABC" for number in (1, 2)]
    aligned = Aligned(tuple(photos), (), np.ones(6, bool), tmp_path)
    plain = np.array([[0.0], [0.5], [10.0], [10.7], [20.0], [20.61]])
    emulated = plain - np.array([[0.0]] * 5 + [[0.02]])
    values = {Arithmetic.PLAIN: SimpleNamespace(values=plain), Arithmetic.EMULATED: SimpleNamespace(values=emulated)}
    monkeypatch.setattr(ranking, "open_photos", lambda _: None)
    monkeypatch.setattr(ranking, "align", lambda *_: aligned)
    monkeypatch.setattr(ranking, "embed", lambda *given: values[given[3]])
    document = rank(RankOptions(tmp_path, tmp_path / "pairs.txt", tmp_path, "tiny-test", 0, 0, shown=False))
    assert document["rank-1 accuracy"] == document["rank-1 accuracy, emulated"] == 1.0
    assert document["nearest that differ from float64"] == 0
    assert document["outcomes with the threshold that differ"] == 1
    assert document["found and right"] == pytest.approx(2 / 3)


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
