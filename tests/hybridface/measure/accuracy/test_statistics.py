"""Thresholds, folds and the ROC curve, against a search of all thresholds, scipy, and what must not change them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu

from hybridface.measure.accuracy.statistics import (
    best_threshold,
    decide,
    fold_accuracy,
    roc_curve,
    thresholds_of_pairs,
)
from protocols.errors import ParameterError

Distances = NDArray[np.float64]
Same = NDArray[np.bool_]
Sample = tuple[Distances, Same]


@st.composite
def samples(draw: st.DrawFn, least: int = 2) -> Sample:
    """Distances with many ties, and both kinds of pairs."""
    values = draw(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=least, max_size=40))
    distances = np.array([value / 8 for value, _ in values])
    same = np.array([kind for _, kind in values])
    same[:2] = True, False
    return distances, same


def every_threshold(distances: Distances) -> list[float]:
    """Below all, above all, and between any two."""
    known = sorted(set(distances.tolist()))
    return [known[0] - 1, *((a + b) / 2 for a, b in pairwise(known)), known[-1] + 1]


@given(samples())
def test_no_threshold_is_better(sample: Sample) -> None:
    distances, same = sample
    best = max(float(np.mean((distances < t) == same)) for t in every_threshold(distances))
    assert decide(distances, same, best_threshold(distances, same)).accuracy == pytest.approx(best, abs=1e-12)


def test_the_threshold_lies_between_two_distances() -> None:
    distances, same = np.array([0.1, 0.2, 0.9, 0.3, 0.25]), np.array([True, True, False, True, False])
    assert best_threshold(distances[:4], same[:4]) == pytest.approx(0.6)
    assert best_threshold(distances, same) == pytest.approx(0.225)
    nobody, everybody = np.array([False, False]), np.array([True, True])
    assert decide(distances[:2], nobody, best_threshold(distances[:2], nobody)).accuracy == 1
    assert decide(distances[:2], everybody, best_threshold(distances[:2], everybody)).accuracy == 1
    near = np.array([0.5, np.nextafter(0.5, 1)])
    truth = np.array([True, False])
    assert decide(near, truth, best_threshold(near, truth)).accuracy == 1


@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(sample: Sample, random: object) -> None:
    distances, same = sample
    order = list(range(len(same)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert best_threshold(distances[order], same[order]) == best_threshold(distances, same)
    assert roc_curve(distances[order], same[order]).eer == roc_curve(distances, same).eer


@given(samples())
def test_the_curve_is_every_operating_point(sample: Sample) -> None:
    distances, same = sample
    roc = roc_curve(distances, same)
    expected = {
        (float(np.mean(distances[~same] < t)), float(np.mean(distances[same] < t))) for t in every_threshold(distances)
    }
    assert set(zip(roc.far.tolist(), roc.tar.tolist(), strict=True)) == expected
    for threshold, far, tar in zip(roc.thresholds, roc.far, roc.tar, strict=True):
        assert (np.mean(distances[~same] < threshold), np.mean(distances[same] < threshold)) == (far, tar)
    assert (np.diff(roc.far) >= 0).all()
    assert (np.diff(roc.tar) >= 0).all()


@given(samples())
def test_area_is_the_mann_whitney_statistic(sample: Sample) -> None:
    distances, same = sample
    expected = mannwhitneyu(distances[~same], distances[same]).statistic / (np.sum(same) * np.sum(~same))
    assert roc_curve(distances, same).auc == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(samples())
def test_equal_error_rate_is_where_the_line_crosses(sample: Sample) -> None:
    roc = roc_curve(*sample)
    places = np.arange(len(roc.far))

    def at(place: float, values: Distances) -> float:
        return float(np.interp(place, places, values))

    place = brentq(lambda p: at(p, roc.far) - (1 - at(p, roc.tar)), 0, places[-1], xtol=1e-14)
    assert roc.eer == pytest.approx(at(place, roc.far), abs=1e-9)
    assert roc.eer == pytest.approx(1 - at(place, roc.tar), abs=1e-9)


@given(samples(), st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0]))
def test_tar_at_far_is_the_best_allowed_threshold(sample: Sample, far: float) -> None:
    distances, same = sample
    allowed = [t for t in every_threshold(distances) if np.mean(distances[~same] < t) <= far]
    assert roc_curve(distances, same).tar_at(far) == max(float(np.mean(distances[same] < t)) for t in allowed)


@given(samples())
def test_any_growing_function_of_the_distance_gives_the_same_curve(sample: Sample) -> None:
    distances, same = sample
    one, other = roc_curve(distances, same), roc_curve(np.exp(3 * distances), same)
    assert np.array_equal(one.far, other.far)
    assert np.array_equal(one.tar, other.tar)
    assert (one.eer, one.auc, one.tar_at(0.1)) == (other.eer, other.auc, other.tar_at(0.1))


def test_known_figures() -> None:
    perfect = roc_curve(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, False, False]))
    assert (perfect.eer, perfect.auc, perfect.tar_at(0.0)) == (0.0, 1.0, 1.0)
    worst = roc_curve(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    assert (worst.eer, worst.auc, worst.tar_at(0.001)) == (1.0, 0.0, 0.0)
    no_difference = roc_curve(np.ones(4), np.array([False, True, True, False]))
    assert (no_difference.eer, no_difference.auc, no_difference.tar_at(0.9)) == (0.5, 0.5, 0.0)


# Folds

DISTANCES = np.array([1.0, 5.0, 3.0, 9.0, 2.0, 7.0])
SAME = np.array([True, False] * 3)
FOLDS = np.array([1, 1, 2, 2, 3, 3])


def test_every_fold_is_decided_by_the_others() -> None:
    result = fold_accuracy(DISTANCES, SAME, FOLDS)
    assert result.folds == (1, 2, 3)
    expected = [best_threshold(DISTANCES[fold != FOLDS], SAME[fold != FOLDS]) for fold in (1, 2, 3)]
    assert list(result.thresholds) == expected == [5.0, 3.5, 4.0]
    assert result.accuracies == (1.0, 1.0, 1.0)
    assert thresholds_of_pairs(result, FOLDS).tolist() == [t for t in expected for _ in range(2)]


def test_some_folds_are_decided_by_all_that_are_not_among_them() -> None:
    result = fold_accuracy(DISTANCES, SAME, FOLDS, [2, 3])
    assert result.folds == (2, 3)
    assert result.thresholds == (3.0, 3.0)
    assert result.accuracies == (0.5, 1.0), "3 is not below 3"
    assert fold_accuracy(DISTANCES, SAME, FOLDS, [1, 2, 3]) == fold_accuracy(DISTANCES, SAME, FOLDS)


@given(samples(least=6), st.integers(0, 12))
def test_a_fold_has_no_say_in_its_own_threshold(sample: Sample, value: int) -> None:
    distances, same = sample
    folds = np.arange(len(same)) % 3
    before = fold_accuracy(distances, same, folds).thresholds[0]
    changed = np.where(folds == 0, value / 8, distances)
    assert fold_accuracy(changed, same, folds).thresholds[0] == before
    before = fold_accuracy(distances, same, folds, [0, 1]).thresholds[0]
    assert fold_accuracy(changed, same, folds, [0, 1]).thresholds[0] == before


def test_deviation_and_standard_error() -> None:
    accuracies = [0.5, 1.0, 0.75, 1.0]
    distances = np.tile([0.1, 0.9], 4)
    result = fold_accuracy(distances, np.tile([True, False], 4), np.repeat([1, 2, 3, 4], 2))
    assert (result.mean, result.deviation, result.standard_error) == (1.0, 0.0, 0.0)
    result = type(result)((1, 2, 3, 4), (0.5,) * 4, tuple(accuracies))
    assert result.mean == 0.8125
    assert result.deviation == pytest.approx((sum((a - 0.8125) ** 2 for a in accuracies) / 3) ** 0.5)
    assert result.standard_error == pytest.approx(result.deviation / 2)
    one = type(result)((1,), (0.5,), (0.9,))
    assert (one.mean, one.deviation, one.standard_error) == (0.9, None, None)


def test_what_cannot_be_measured_is_refused() -> None:
    none = np.zeros(0)
    with pytest.raises(ParameterError, match="at least one pair"):
        best_threshold(none, none.astype(bool))
    with pytest.raises(ParameterError, match="finite distances"):
        decide(np.array([np.nan]), np.array([True]), 1.0)
    with pytest.raises(ParameterError, match="one kind only"):
        roc_curve(np.ones(2), np.array([True, True]))
    with pytest.raises(ParameterError, match="at least two folds"):
        fold_accuracy(DISTANCES, SAME, np.ones(6, dtype=np.int64))
    with pytest.raises(ParameterError, match=r"expected some of the folds \[1, 2, 3\], got \[3, 4\]"):
        fold_accuracy(DISTANCES, SAME, FOLDS, [3, 4])
