"""Thresholds from labelled pairs, and folds that are held out."""

from pathlib import Path

import numpy as np
import pytest

from hybridface.errors import ImageError
from hybridface.train import accuracy
from support.portraits import PAIRS


def test_threshold_lies_between_what_it_tells_apart() -> None:
    distances, same = np.array([0.1, 0.2, 0.9, 0.3]), np.array([True, True, False, True])
    assert accuracy.soft_threshold(distances, same) == pytest.approx(0.6, abs=0.01)
    assert accuracy.soft_threshold(7 * distances, same) == pytest.approx(4.2, abs=0.07)


def test_threshold_is_where_two_normal_distributions_cross() -> None:
    random = np.random.default_rng(6)
    distances = np.concatenate([random.normal(1.0, 0.2, 4000), random.normal(1.6, 0.2, 4000)])
    assert accuracy.soft_threshold(distances, np.arange(8000) < 4000) == pytest.approx(1.3, abs=0.02)


def test_folds(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(PAIRS)
    split = accuracy.read_split(path, [2])
    assert [len(split.training), len(split.held_out), split.people()] == [2, 2, {"Bea", "Dov"}]
    for folds in ([], [3], [1, 2]):
        with pytest.raises(ImageError, match="expected some of the folds 1 to 2 to hold out"):
            accuracy.read_split(path, folds)
    path.write_text(PAIRS.replace("2\t1", "3\t1", 1))
    with pytest.raises(ImageError, match="expected 3 folds of 2 pairs, got 4 pairs"):
        accuracy.read_split(path, [2])
