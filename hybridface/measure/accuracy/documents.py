"""Return the results as data: a row for every pair, and the figures of a measurement as one flat JSON object."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.measure.accuracy.statistics import FoldAccuracy, Roc, decide

__all__ = [
    "FARS",
    "Decision",
    "arithmetic_document",
    "comparison_figures",
    "session_document",
    "write_decisions",
]

FARS = (0.01, 0.001)
"""The FARs at which the TAR is given."""


@dataclass(frozen=True)
class Decision:
    """A pair, and how it was decided: a row of pairs.csv. A field that a mode does not have is empty.

    Args:
        fold: the number of the pair's fold.
        first, second, same: the pair.
        distance: the Euclidean distance of the embeddings. If the mode runs a protocol, it is the reference's distance.
        decision: whether the pair shows one person, at the model's own threshold. If the mode runs a protocol, it is
            the protocol's decision.
        fold_threshold, fold_decision: the threshold and the decision by LFW's protocol.
        reference_distance, reference_decision, reference_fold_decision: the same by the mode's reference.
        error: the error of a protocol. In hybrid mode, it is the largest difference of an element of the first
            embedding. In pure-HE mode, it is the relative error of the squared distance, to two digits.
    """

    fold: int
    first: str
    second: str
    same: bool
    distance: float
    decision: bool
    fold_threshold: float | None = None
    fold_decision: bool | None = None
    reference_distance: float | None = None
    reference_decision: bool | None = None
    reference_fold_decision: bool | None = None
    error: float | None = None


def arithmetic_document(
    accuracy: FoldAccuracy, roc: Roc, distances: NDArray[np.float64], same: NDArray[np.bool_], threshold: float
) -> dict[str, Any]:
    """Return the figures of pairs (n,) that were all decided by distance.

    Args:
        threshold: the model's own threshold.
    """
    own = decide(distances, same, threshold)
    return {
        "accuracy": accuracy.mean,
        "accuracy_se": accuracy.standard_error,
        "accuracy_std": accuracy.deviation,
        "eer": roc.eer,
        "auc": roc.auc,
        "tar_at_far": {str(far): roc.tar_at(far) for far in FARS},
        "threshold_accuracy": own.accuracy,
        "false_accepts": own.false_accepts,
        "false_rejects": own.false_rejects,
        "fold_accuracies": list(accuracy.accuracies),
        "fold_thresholds": list(accuracy.thresholds),
    }


def comparison_figures(decisions: Sequence[Decision], threshold: float) -> dict[str, Any]:
    """Return how much all pairs differ from their reference."""
    differing = [d for d in decisions if d.decision != d.reference_decision]
    differences = [abs(d.distance - d.reference_distance) for d in decisions if d.reference_distance is not None]
    return {
        "differing_decisions": len(differing),
        "differing_fold_decisions": sum(d.fold_decision != d.reference_fold_decision for d in decisions),
        "largest_distance_difference": max(differences),
        "nearest_to_threshold": min(abs(d.distance - threshold) for d in decisions),
        "differing": [_named(decision) for decision in differing],
    }


def session_document(decisions: Sequence[Decision], is_relative: bool) -> dict[str, Any]:
    """Return the figures of pairs that a protocol has decided. They are too few for an accuracy over folds.

    Args:
        is_relative: whether the errors are relative errors of squared distances.
    """
    right = [d.decision == d.same for d in decisions]
    differing = [d for d in decisions if d.decision != d.reference_decision]
    errors = [d.error for d in decisions if d.error is not None]
    name = "relative_distance_error" if is_relative else "embedding_difference"
    return {
        "accuracy": None,
        "threshold_accuracy": sum(right) / len(right),
        "false_accepts": sum(d.decision and not d.same for d in decisions),
        "false_rejects": sum(d.same and not d.decision for d in decisions),
        "differing_decisions": len(differing),
        f"largest_{name}": _rounded(max(errors)) if errors else None,
        f"median_{name}": _rounded(median(errors)) if errors else None,
        "differing": [_named(decision) for decision in differing],
    }


def write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """Write pairs.csv: a header, and a row for every pair. True and false are written as 1 and 0."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Decision))
        for decision in decisions:
            writer.writerow(int(value) if isinstance(value, bool) else value for value in _cells(decision))


def _cells(decision: Decision) -> list[Any]:
    cells = asdict(decision)
    cells["error"] = _rounded(decision.error)
    return list(cells.values())


def _named(decision: Decision) -> dict[str, Any]:
    return {key: value for key, value in asdict(decision).items() if value is not None and key != "error"}


def _rounded(value: float | None) -> float | None:
    """Round to two digits, because a decrypted score must not be published exactly."""
    return None if value is None else float(f"{value:.1e}")
