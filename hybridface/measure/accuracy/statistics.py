"""Compute thresholds, accuracy over folds, and the ROC curve with its figures from the distances of pairs.

Two faces are accepted as the same person if their distance is *below* a threshold. FAR is the share of pairs of
different people that are accepted. TAR is the share of pairs of the same person that are accepted. The definitions are
LFW's, if LFW has them (Huang et al., "Labeled Faces in the Wild", UMass Amherst 07-49, 2007, section on View 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = [
    "Decided",
    "FoldAccuracy",
    "Roc",
    "best_threshold",
    "decide",
    "fold_accuracy",
    "roc_curve",
    "thresholds_of_pairs",
]

Values = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Decided:
    """Pairs decided by one threshold.

    Args:
        accuracy: the share of pairs that are decided correctly.
        false_accepts: the number of pairs of different people that are accepted.
        false_rejects: the number of pairs of the same person that are rejected.
    """

    accuracy: float
    false_accepts: int
    false_rejects: int


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy by LFW's protocol: every fold is decided by the threshold that is best on pairs of other people.

    Args:
        folds: the numbers of the folds.
        thresholds, accuracies: the threshold and the accuracy of every fold.
    """

    folds: tuple[int, ...]
    thresholds: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of the folds' accuracies."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the folds' accuracies, with n - 1; None for a single fold."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean, deviation / sqrt(n), which LFW's tables give after the accuracy."""
        return None if self.deviation is None else self.deviation / len(self.accuracies) ** 0.5


@dataclass(frozen=True)
class Roc:
    """A ROC curve: every operating point that some threshold has.

    Args:
        far, tar: (points,), both growing from 0 to 1. Pairs at equal distances are accepted together.
        thresholds: (points,), the threshold of each point; it accepts all pairs below it.
    """

    far: Values
    tar: Values
    thresholds: Values

    @property
    def auc(self) -> float:
        """The area under the curve by trapezia: the chance that a same-person pair is nearer than a different one."""
        return float(np.trapezoid(self.tar, self.far))

    @property
    def eer(self) -> float:
        """The equal error rate: the FAR at which FAR = 1 - TAR, on the straight line between the nearest two points."""
        gap = self.far + self.tar - 1.0  # grows from -1 to 1
        after = int(np.argmax(gap >= 0))
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(self.far[after - 1] + share * (self.far[after] - self.far[after - 1]))

    def tar_at(self, far: float) -> float:
        """Return the largest TAR of a threshold whose FAR is at most `far`, without interpolation.

        With fewer than 1 / far pairs of different people, this is the largest TAR at which none of them is accepted.
        """
        return float(self.tar[self.far <= far][-1])


def best_threshold(distances: Values, same: Truth) -> float:
    """Return the threshold that decides most pairs correctly; of equally good thresholds, the smallest.

    The threshold lies half way between two distances. The threshold that accepts nobody is the smallest distance. The
    threshold that accepts everybody is the next floating-point number after the largest distance.

    Args:
        distances, same: (n,), in any order.

    Raises:
        ParameterError: there is no pair.
    """
    thresholds, accepted_same, accepted_different = _operating_points(distances, same)
    return float(thresholds[int((accepted_same - accepted_different).argmax())])


def decide(distances: Values, same: Truth, threshold: float | Values) -> Decided:
    """Return how a threshold decides pairs, correctly or wrongly.

    Args:
        threshold: one threshold for all pairs, or one for every pair.

    Raises:
        ParameterError: there is no pair.
    """
    _check(distances, same)
    accepted = distances < threshold
    return Decided(float(np.mean(accepted == same)), int(np.sum(accepted & ~same)), int(np.sum(~accepted & same)))


def fold_accuracy(
    distances: Values, same: Truth, fold_of: NDArray[np.int64], evaluated: Sequence[int] | None = None
) -> FoldAccuracy:
    """Return the accuracy on folds, each decided by a threshold from folds with other people.

    Args:
        distances, same, fold_of: (n,), of all pairs.
        evaluated: the folds to evaluate. With None or all folds, every fold's threshold comes from all other folds, as
            LFW prescribes. With some of the folds, there is one threshold, from all folds that are not evaluated.

    Raises:
        ParameterError: a fold is unknown, or no pair is left to choose a threshold with.
    """
    _check(distances, same)
    known = sorted({int(fold) for fold in fold_of})
    chosen = known if evaluated is None else sorted(set(evaluated))
    if not chosen or not set(chosen) <= set(known):
        raise ParameterError(f"expected some of the folds {known}, got {chosen}")
    thresholds, accuracies = [], []
    for fold in chosen:
        others = fold_of != fold if chosen == known else ~np.isin(fold_of, chosen)
        if not others.any():
            raise ParameterError("expected pairs of at least two folds, to choose a threshold on other people, got one")
        thresholds.append(best_threshold(distances[others], same[others]))
        here = fold_of == fold
        accuracies.append(decide(distances[here], same[here], thresholds[-1]).accuracy)
    return FoldAccuracy(tuple(chosen), tuple(thresholds), tuple(accuracies))


def roc_curve(distances: Values, same: Truth) -> Roc:
    """Return the ROC curve of pairs (n,).

    Raises:
        ParameterError: there is no pair of the same person, or none of different people.
    """
    if same.all() or not same.any():
        raise ParameterError("expected pairs of the same person and of different people, got one kind only")
    thresholds, accepted_same, accepted_different = _operating_points(distances, same)
    return Roc(accepted_different / accepted_different[-1], accepted_same / accepted_same[-1], thresholds)


def thresholds_of_pairs(accuracy: FoldAccuracy, fold_of: NDArray[np.int64]) -> Values:
    """Return the threshold of every pair's fold, (n,)."""
    by_fold: Mapping[int, float] = dict(zip(accuracy.folds, accuracy.thresholds, strict=True))
    return np.array([by_fold[int(fold)] for fold in fold_of])


def _operating_points(distances: Values, same: Truth) -> tuple[Values, NDArray[np.int64], NDArray[np.int64]]:
    """Return one threshold, in growing order, for each way to split the pairs, and how many of both kinds are below."""
    _check(distances, same)
    order = np.argsort(distances, kind="stable")
    ordered, ordered_same = distances[order], same[order]
    last = np.append(np.flatnonzero(np.diff(ordered) > 0), len(ordered) - 1)  # the last pair at each distance
    low, high = ordered[last[:-1]], ordered[last[:-1] + 1]
    middle = low + (high - low) / 2
    between = np.where(middle > low, middle, high)  # two neighbouring floating-point numbers have no middle
    thresholds = np.concatenate([ordered[:1], between, [np.nextafter(ordered[-1], np.inf)]])
    zero = np.zeros(1, dtype=np.int64)
    counts = [np.concatenate([zero, np.cumsum(kind, dtype=np.int64)[last]]) for kind in (ordered_same, ~ordered_same)]
    return thresholds, counts[0], counts[1]


def _check(distances: Values, same: Truth) -> None:
    if distances.shape != same.shape or distances.ndim != 1 or not len(distances) or not np.isfinite(distances).all():
        raise ParameterError(
            f"expected finite distances of at least one pair, got shapes {distances.shape} and {same.shape}"
        )
