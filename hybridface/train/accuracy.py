"""What a student is worth on pairs of photos, and the threshold that decides them.

Pairs come in folds with different people in each. The threshold is the best one for the pairs of the folds that were
trained on; accuracy is counted on the folds that were held out, whose people the student has never seen.
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
"""Thresholds that are tried, and the deviation of the soft edge as a fraction of the mean distance."""


@dataclass(frozen=True)
class Split:
    """Pairs to fix the threshold with, and pairs to count on, of other people."""

    training: tuple[Pair, ...]
    held_out: tuple[Pair, ...]

    def people(self) -> set[str]:
        """Return the folders, one per person, that occur in held-out pairs."""
        return {photo.split("/")[0] for pair in self.held_out for photo in pair[:2]}


@dataclass(frozen=True)
class PairAccuracy:
    """Shares of pairs decided rightly, and the squared distance that decides.

    Args:
        threshold: of raw distances, from training pairs.
        training: accuracy of raw distances on the training pairs.
        held_out: accuracy of raw distances on the held-out pairs, with that threshold.
        false_accepts, false_rejects: of the held-out pairs of different, and of the same people.
        held_out_normalised: the same with embeddings scaled to length 1, and a threshold found alike; for comparison.
        lengths: 5 and 95 % of the lengths of the held-out photos' embeddings.
    """

    threshold: float
    training: float
    held_out: float
    false_accepts: float
    false_rejects: float
    held_out_normalised: float
    lengths: tuple[float, float]


def read_split(path: Path, held_out: Sequence[int]) -> Split:
    """Read LFW's pairs file, whose header names the number of folds and half their size; folds count from 1.

    Raises:
        ImageError: the file has another format, or no such fold, or no other fold.
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
    """Return the threshold under which most pairs are decided rightly, each counted with a soft edge.

    With hard edges the best lies anywhere on a flat top, and moves with a single pair. Where many
    thresholds are equally good, it is the one in the middle.
    """
    tried = torch.linspace(float(distances.min()), float(distances.max()), _TRIED, dtype=torch.float64)
    signs = torch.from_numpy(np.where(same, 1.0, -1.0))
    above = (tried[:, None] - torch.from_numpy(distances)) / (_EDGE * float(distances.mean()))
    right = torch.special.ndtr(signs * above).sum(1)
    return float(tried[right >= right.max() - 1e-9].mean())


def measure(embeddings: Mapping[str, NDArray[np.float64]], split: Split) -> PairAccuracy:
    """Return the accuracy of embeddings (d,), by photo."""
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
