"""Choose a student's threshold on pairs of photos, and measure its accuracy with that threshold.

Pairs come in folds, and each fold has different people. The training folds give the threshold: the one that is best for
their pairs. The held-out folds give the accuracy: the student has never seen their people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.faces.pairs import Pair, read_folds
from hybridface.measure.accuracy.statistics import decide

__all__ = ["PairAccuracy", "Split", "measure", "read_split", "soft_threshold"]

_TRIED, _EDGE = 1001, 0.05
"""Number of thresholds to try, and the standard deviation of the soft edge as a fraction of the mean distance."""


@dataclass(frozen=True)
class Split:
    """The pairs that give the threshold, and the pairs of other people that give the accuracy."""

    training: tuple[Pair, ...]
    held_out: tuple[Pair, ...]

    def people(self) -> set[str]:
        """Return the folders (one per person) that occur in held-out pairs."""
        return {photo.split("/")[0] for pair in self.held_out for photo in pair[:2]}


@dataclass(frozen=True)
class PairAccuracy:
    """Shares of correctly decided pairs, and the threshold that decides them.

    All distances are squared. Raw distances are those of embeddings that are not scaled to length 1.

    Args:
        threshold: the threshold of raw distances, chosen on the training pairs.
        training: the accuracy of raw distances on the training pairs.
        held_out: the accuracy of raw distances on the held-out pairs, with that threshold.
        false_accepts: the share of held-out pairs of different people that are accepted.
        false_rejects: the share of held-out pairs of the same person that are rejected.
        held_out_normalised: `held_out` for embeddings scaled to length 1, with a threshold chosen in the same way. For
            comparison only.
        lengths: the 5th and 95th percentile of the lengths of the held-out photos' embeddings.
    """

    threshold: float
    training: float
    held_out: float
    false_accepts: float
    false_rejects: float
    held_out_normalised: float
    lengths: tuple[float, float]


def read_split(path: Path, held_out: Sequence[int]) -> Split:
    """Read LFW's pairs file. Its header has the number of folds and half the size of a fold; folds count from 1.

    Raises:
        ImageError: the file has another format, a fold to hold out is not in it, or no other fold is left.
    """
    folds, chosen = read_folds(path), set(held_out)
    known = folds.numbers
    if not chosen or not chosen < set(known):
        raise ImageError(f"expected some of the folds {known[0]} to {known[-1]} to hold out, got {sorted(chosen)}")
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair, fold in zip(folds.pairs, folds.fold_of.tolist(), strict=True):
        sides[fold in chosen].append(pair)
    return Split(tuple(sides[0]), tuple(sides[1]))


def soft_threshold(distances: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Return the threshold that decides most pairs correctly, where each pair counts with a soft edge.

    With hard edges, many thresholds are equally good, and a single pair moves the best one. Of equally good thresholds,
    this function returns the mean.
    """
    tried = torch.linspace(float(distances.min()), float(distances.max()), _TRIED, dtype=torch.float64)
    signs = torch.from_numpy(np.where(same, 1.0, -1.0))
    above = (tried[:, None] - torch.from_numpy(distances)) / (_EDGE * float(distances.mean()))
    right = torch.special.ndtr(signs * above).sum(1)
    return float(tried[right >= right.max() - 1e-9].mean())


def measure(embeddings: Mapping[str, NDArray[np.float64]], split: Split) -> PairAccuracy:
    """Return the accuracy of embeddings (d,), which are given by photo."""
    unit = {photo: value / np.linalg.norm(value) for photo, value in embeddings.items()}
    threshold, training, held_out, errors = _decide(embeddings, split)
    photos = {photo for pair in split.held_out for photo in pair[:2]}
    low, high = np.percentile([np.linalg.norm(embeddings[photo]) for photo in photos], (5, 95))
    return PairAccuracy(threshold, training, held_out, *errors, _decide(unit, split)[2], (float(low), float(high)))


def _decide(
    embeddings: Mapping[str, NDArray[np.float64]], split: Split
) -> tuple[float, float, float, tuple[float, float]]:
    distances, same = _distances(embeddings, split.training)
    threshold = soft_threshold(distances, same)
    training = decide(distances, same, threshold).accuracy
    distances, same = _distances(embeddings, split.held_out)
    held_out = decide(distances, same, threshold)
    errors = held_out.false_accepts / max(1, int(np.sum(~same))), held_out.false_rejects / max(1, int(np.sum(same)))
    return threshold, training, held_out.accuracy, errors


def _distances(
    embeddings: Mapping[str, NDArray[np.float64]], pairs: Sequence[Pair]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    missing = [photo for pair in pairs for photo in pair[:2] if photo not in embeddings]
    if missing:
        raise ImageError(f"expected every photo of the pairs, found no {missing[0]}")
    differences = np.array([embeddings[first] - embeddings[second] for first, second, _ in pairs])
    return np.square(differences).sum(1), np.array([same for *_, same in pairs])
