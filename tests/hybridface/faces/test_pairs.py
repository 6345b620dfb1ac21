"""The pairs file, its folds, and which pairs are measured."""

import os
from pathlib import Path

import numpy as np
import pytest

from hybridface.errors import ImageError
from hybridface.faces.pairs import folds_from_text, photos_of, read_folds, read_pairs
from hybridface.measure.accuracy.selection import select
from protocols.errors import ParameterError

TEXT = "3\t2\n" + "".join(
    f"Ann{fold}\t1\t2\nAnn{fold}\t1\t3\nAnn{fold}\t1\tBob{fold}\t1\nAnn{fold}\t2\tBob{fold}\t1\n" for fold in (1, 2, 3)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "pairs.txt").write_text(TEXT)
    return tmp_path / "pairs.txt"


def test_pairs_format(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("10\t300\nAnn A\t1\t4\n\nAnn A\t10\tBob\t2\n")
    assert read_pairs(path) == [
        ("Ann A/Ann A_0001.jpg", "Ann A/Ann A_0004.jpg", True),
        ("Ann A/Ann A_0010.jpg", "Bob/Bob_0002.jpg", False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0\n",
        "1\nAnn\tone\t2\n",
        "1\nAnn\t1\n",
        "1\nAnn 1 2\n",
        "1\nAnn\t1\tBob\tx\n",
        "1\nAnn\t1\tBob\t2\textra\n",
        "1\n../Ann\t1\t2\n",
        "1\n..\t1\t2\n",
        "1\nAnn\t1\t/etc\t2\n",
    ],
    ids=repr,
)
def test_other_formats_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(ImageError, match=r"pairs\.txt: expected pairs in LFW's format, got ") as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_pairs_that_have_no_end_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(ImageError, match="expected pairs in LFW's format, got .*expected a plain file"):
            read_pairs(tmp_path / name)


def test_unreadable_pairs(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\t\n\xff")
    for name in ("none", "bytes", "."):
        with pytest.raises(ImageError, match="expected pairs in LFW's format"):
            read_pairs(tmp_path / name)


def test_folds(path: Path) -> None:
    folds = read_folds(path)
    assert folds.numbers == (1, 2, 3)
    assert folds.fold_of.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert folds.rows([1, 3]).tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert photos_of(folds.pairs[:3]) == [
        "Ann1/Ann1_0001.jpg",
        "Ann1/Ann1_0002.jpg",
        "Ann1/Ann1_0003.jpg",
        "Bob1/Bob1_0001.jpg",
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("3\t1", "expected 3 folds of 2 pairs, got 12 pairs"),
        ("12", "expected a header with folds and pairs"),
        ("three\ttwo", "expected a header with folds and pairs"),
    ],
)
def test_a_header_that_does_not_fit(path: Path, header: str, message: str) -> None:
    path.write_text(TEXT.replace("3\t2", header, 1))
    with pytest.raises(ImageError, match=message):
        read_folds(path)


def test_folds_as_text() -> None:
    assert folds_from_text("8,7") == folds_from_text("7, 8,8") == (7, 8)
    for text in ("", "7;8", "last"):
        with pytest.raises(ParameterError, match="expected folds like 7,8, got "):
            folds_from_text(text)


def test_selection(path: Path) -> None:
    folds = read_folds(path)
    everything = select(folds)
    assert everything.evaluated.tolist() == everything.used.tolist() == list(range(12))
    assert (everything.numbers, everything.others.tolist()) == ((1, 2, 3), [])
    some = select(folds, (2,))
    assert some.evaluated.tolist() == [4, 5, 6, 7]
    assert some.others.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert (some.numbers, some.used.tolist()) == ((2,), list(range(12)))
    assert some.pairs(some.evaluated)[0] == ("Ann2/Ann2_0001.jpg", "Ann2/Ann2_0002.jpg", True)
    with pytest.raises(ImageError, match=r"expected some of the folds 1 to 3, got \[3, 4\]"):
        select(folds, (3, 4))


def test_a_sample_is_drawn_by_its_seed(path: Path) -> None:
    folds = read_folds(path)
    drawn = [select(folds, (), 5, seed).evaluated for seed in range(6)]
    assert all(len(np.unique(places)) == 5 and (np.diff(places) > 0).all() for places in drawn)
    assert len({tuple(places) for places in drawn}) > 1
    assert np.array_equal(select(folds, (), 5, 3).evaluated, drawn[3])
    assert len(select(folds, (), 50).evaluated) == 12
    limited = select(folds, (2, 3), 3)
    assert (len(limited.evaluated), len(limited.others)) == (3, 3)
    assert set(limited.others.tolist()) <= {0, 1, 2, 3}
