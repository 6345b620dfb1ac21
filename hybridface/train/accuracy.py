"""What a student is worth on pairs of photos, and the threshold that decides them.

Pairs come in folds with different people in each. The threshold is the best one for the pairs of the folds that were
trained on; accuracy is counted on the folds that were held out, whose people the student has never seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.evaluate import Pair, read_pairs

__all__ = ["Accuracy", "Split", "best_threshold", "measure", "read_split"]


@dataclass(frozen=True)
class Split:
    """Pairs to fix the threshold with, and pairs to count on, of other people."""

    training: tuple[Pair, ...]
    held_out: tuple[Pair, ...]

    def people(self) -> set[str]:
        """Return the folders, one per person, that occur in held-out pairs."""
        return {photo.split("/")[0] for pair in self.held_out for photo in pair[:2]}


@dataclass(frozen=True)
class Accuracy:
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
    pairs = read_pairs(path)
    try:
        folds, half = (int(word) for word in path.read_text().split("\n", 1)[0].split())
    except ValueError as error:
        raise ImageError(f"{path}: expected a header with folds and pairs, got {error}") from error
    if len(pairs) != 2 * folds * half:
        raise ImageError(f"{path}: expected {folds} folds of {2 * half} pairs, got {len(pairs)} pairs")
    chosen = set(held_out)
    if not chosen or not chosen < set(range(1, folds + 1)):
        raise ImageError(f"expected some of the folds 1 to {folds} to hold out, got {sorted(chosen)}")
    fold_of = [1 + index // (2 * half) for index in range(len(pairs))]
    training = tuple(pair for pair, fold in zip(pairs, fold_of, strict=True) if fold not in chosen)
    return Split(training, tuple(pair for pair, fold in zip(pairs, fold_of, strict=True) if fold in chosen))


def best_threshold(distances: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Return the threshold under which most pairs are decided rightly, half way between two distances."""
    order = np.argsort(distances)
    sorted_distances, sorted_same = distances[order], same[order]
    right: NDArray[np.int64] = np.cumsum(sorted_same) - np.cumsum(~sorted_same)
    index = int(right.argmax())
    return float(sorted_distances[index : index + 2].mean())


def measure(embeddings: Mapping[str, NDArray[np.float64]], split: Split) -> Accuracy:
    """Return the accuracy of embeddings (d,), by photo."""
    unit = {photo: value / np.linalg.norm(value) for photo, value in embeddings.items()}
    threshold, training, held_out, errors = _decide(embeddings, split)
    photos = {photo for pair in split.held_out for photo in pair[:2]}
    low, high = np.percentile([np.linalg.norm(embeddings[photo]) for photo in photos], (5, 95))
    return Accuracy(threshold, training, held_out, *errors, _decide(unit, split)[2], (float(low), float(high)))


def _decide(
    embeddings: Mapping[str, NDArray[np.float64]], split: Split
) -> tuple[float, float, float, tuple[float, float]]:
    distances, same = _distances(embeddings, split.training)
    threshold = best_threshold(distances, same)
    training = float(np.mean((distances < threshold) == same))
    distances, same = _distances(embeddings, split.held_out)
    accepted = distances < threshold
    errors = float(np.mean(accepted[~same])), float(np.mean(~accepted[same]))
    return threshold, training, float(np.mean(accepted == same)), errors


def _distances(
    embeddings: Mapping[str, NDArray[np.float64]], pairs: Sequence[Pair]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    missing = [photo for pair in pairs for photo in pair[:2] if photo not in embeddings]
    if missing:
        raise ImageError(f"expected every photo of the pairs, found no {missing[0]}")
    differences = np.array([embeddings[first] - embeddings[second] for first, second, _ in pairs])
    return np.square(differences).sum(1), np.array([same for *_, same in pairs])
