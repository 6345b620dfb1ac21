"""Evaluation: the pairs format, and figures on a small set of portraits laid out as LFW is."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridface import evaluate
from hybridface.errors import HybridFaceError, ImageError
from hybridface.evaluate import EvaluationReport, evaluate_pairs, read_pairs
from hybridface.photos import photo_path

PORTRAITS = {
    "Ann_A/Ann_A_0001.jpg": "person_a_1.jpg",
    "Ann_A/Ann_A_0002.jpg": "person_a_2.jpg",
    "Imp/Imp_0001.jpg": "impostor_1.jpg",
}
PAIRS = "10\t300\nAnn_A\t1\t2\nAnn_A\t2\tImp\t1\nAnn_A\t1\tImp\t1\n"


def test_pairs_format(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("10\t300\nAnn A\t1\t4\n\nAnn A\t10\tBob\t2\n")
    assert read_pairs(path) == [
        ("Ann A/Ann A_0001.jpg", "Ann A/Ann A_0004.jpg", True),
        ("Ann A/Ann A_0010.jpg", "Bob/Bob_0002.jpg", False),
    ]


@pytest.mark.parametrize(
    "text",
    ["1\nAnn\tone\t2\n", "1\nAnn\t1\n", "1\nAnn 1 2\n", "1\nAnn\t1\tBob\tx\n", "1\nAnn\t1\tBob\t2\textra\n"],
    ids=repr,
)
def test_other_formats_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(ImageError, match=r"pairs\.txt: expected pairs in LFW's format, got ") as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)


def test_unreadable_pairs(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\t\n\xff")
    for name in ("none", "bytes", "."):
        with pytest.raises(ImageError, match="expected pairs in LFW's format"):
            read_pairs(tmp_path / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as LFW is, and in it, one level up, pairs.txt and a tar of the photos."""
    root = tmp_path_factory.mktemp("evaluate")
    for name, portrait in PORTRAITS.items():
        path = root / "lfw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo_path(portrait), path)
    (root / "pairs.txt").write_text(PAIRS)
    with tarfile.open(root / "lfw.tgz", "w:gz") as archive:
        archive.add(root / "lfw", arcname="lfw")
    return root


@pytest.fixture(scope="module")
def from_tar(folder: Path) -> EvaluationReport:
    return evaluate_pairs(folder / "lfw.tgz", folder / "pairs.txt", "dlib-resnet29", workers=1, shown=False)


def test_figures(from_tar: EvaluationReport) -> None:
    figures = from_tar.figures
    assert figures["pairs"] == 3
    assert figures["photos"] == 3
    assert figures["photos without a detected face (central crop)"] == 0
    assert figures["plaintext accuracy"] == figures["emulator accuracy"] == 1.0
    assert figures["emulator false rejects"] == figures["emulator false accepts"] == 0
    assert figures["decisions that differ"] == 0
    assert 0 < figures["largest difference of an embedding's element"] < 2e-3
    assert 0 < figures["largest difference of a distance"] < 1e-2
    assert 1 < figures["largest magnitude compared"] < 2**15
    assert 0.01 < figures["distance of the nearest pair to the threshold"] < 0.6
    assert not [name for name in figures if name.startswith("protocol")], "nothing was to run for real"


def test_document_and_table(from_tar: EvaluationReport) -> None:
    document = json.loads(json.dumps(from_tar.document()))
    assert document == {**from_tar.figures, "differing pairs": []}
    assert from_tar.table().row_count == len(from_tar.figures)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `evaluate_pairs` embed in this process: starting a worker takes seconds."""

    def embed_all(
        images: Path, photos: list[str], model: str, workers: int, shown: bool
    ) -> dict[str, evaluate.Embedded]:
        return {photo: evaluate._embed(images, model, photo) for photo in photos}

    monkeypatch.setattr(evaluate, "_embed_all", embed_all)


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_a_limit_and_the_real_protocol(folder: Path) -> None:
    report = evaluate_pairs(folder / "lfw", folder / "pairs.txt", "tiny-test", protocol=5, limit=2, shown=False)
    figures = report.figures
    assert (figures["pairs"], figures["photos"]) == (2, 3)
    assert figures["protocol: pairs"] == 2, "no more than there are"
    assert figures["protocol: decisions that differ from the plaintext network"] == 0
    assert 0 < figures["protocol: largest difference of an embedding's element"] < 1e-3
    assert figures["protocol: the same against the emulator"] < 8 / 2**16


@pytest.mark.usefixtures("in_this_process")
def test_a_photo_without_a_face_counts_as_its_centre(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "lfw", tmp_path / "lfw")
    Image.new("RGB", (100, 80), (9, 99, 199)).save(tmp_path / "lfw/Imp/Imp_0001.jpg")
    report = evaluate_pairs(tmp_path, folder / "pairs.txt", "tiny-test", shown=False)
    assert report.figures["photos without a detected face (central crop)"] == 1


@pytest.mark.usefixtures("in_this_process")
def test_wrong_decisions_are_counted_and_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that is off by far, and truths that are all false, show in every figure."""
    real = evaluate._embed

    def off(images: Path, model: str, photo: str) -> evaluate.Embedded:
        embedded = real(images, model, photo)
        plain = np.zeros(8)
        return evaluate.Embedded(plain, plain + (2.0 if "Imp" in photo else 0.0), False, embedded.largest)

    monkeypatch.setattr(evaluate, "_embed", off)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("1\nAnn_A\t1\tAnn_A\t2\nAnn_A\t1\tImp\t1\n")
    report = evaluate_pairs(folder / "lfw", pairs, "tiny-test", shown=False)
    assert report.figures["plaintext accuracy"] == 0.0
    assert report.figures["emulator accuracy"] == 0.5
    assert report.figures["emulator false accepts"] == 1
    assert report.figures["emulator false rejects"] == 0
    assert report.figures["decisions that differ"] == 1
    (differing,) = report.document()["differing pairs"]
    assert differing["pair"] == ["Ann_A/Ann_A_0001.jpg", "Imp/Imp_0001.jpg"]
    assert differing["plaintext distance"] == 0.0
    assert differing["emulator distance"] == pytest.approx(2 * np.sqrt(8))


def test_images_that_are_neither_folder_nor_tar(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar")
    for name in ("none", "text"):
        with pytest.raises(ImageError, match=f"{name}: expected a tar file or folder of photos, got "):
            evaluate_pairs(tmp_path / name, folder / "pairs.txt", "tiny-test", shown=False)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("pairs", ["1\nNobody\t1\t2\n", "0\n", ""], ids=["missing photo", "no pairs", "empty"])
def test_pairs_that_cannot_be_evaluated(folder: Path, tmp_path: Path, pairs: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(pairs)
    with pytest.raises(HybridFaceError):
        evaluate_pairs(folder / "lfw", path, "tiny-test", shown=False)


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_with_one_person(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "lfw/Ann_A", tmp_path / "lfw/Ann_A")
    (tmp_path / "pairs.txt").write_text("1\nAnn_A\t1\t2\n")
    report = evaluate_pairs(tmp_path / "lfw", tmp_path / "pairs.txt", "tiny-test", shown=False)
    assert report.figures["photos"] == 2
