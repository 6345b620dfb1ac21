"""A threshold without labels: the one with which the student decides as the teacher does, on photos held out.

Nothing says which photos show one person, so the teacher says it, at its own threshold. Among the photos that were not
trained on, the pairs that the teacher takes for one person are set against as many random ones that it does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.train.accuracy import soft_threshold

__all__ = ["Agreement", "agree", "held_out_photos"]

_MOST_PHOTOS, _MOST_PAIRS, _LEAST_PAIRS = 2000, 5000, 20


@dataclass(frozen=True)
class Agreement:
    """The threshold, and how often it makes the student decide as the teacher does.

    Args:
        threshold: of raw squared distances.
        pairs: of held-out photos that it was chosen on, half of them of one person to the teacher; 0 where the teacher
            found too few, and its own threshold was taken, in the student's measure.
        share: of these pairs on which both decide alike; 0 without pairs.
    """

    threshold: float
    pairs: int
    share: float


def held_out_photos(photos: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose photos (n,) that are not trained on: whole folders at random where there are enough, else single photos.

    Raises:
        ImageError: too few photos for the fraction.
    """
    folders = [photo.split("/")[0] for photo in photos]
    groups = folders if len(set(folders)) * fraction >= 2 else list(photos)
    names = sorted(set(groups))
    count = round(len(names) * fraction)
    if not 0 < count < len(names):
        raise ImageError(f"expected photos to hold out a fraction of {fraction:g} of, got {len(photos)}")
    random = np.random.default_rng([seed, len(names)])
    chosen = {names[index] for index in random.choice(len(names), count, replace=False)}
    return np.array([group in chosen for group in groups])


def agree(
    embeddings: NDArray[np.float64], teacher: NDArray[np.float64], limit: float, unit: float, seed: int
) -> Agreement:
    """Choose the threshold on held-out photos.

    Args:
        embeddings: the student's, (n, d).
        teacher: the teacher's, (n, d), as it gives them.
        limit: the teacher's threshold of the Euclidean distance.
        unit: the teacher's distances were divided by it for training.
    """
    random = np.random.default_rng([seed, len(embeddings)])
    chosen = random.permutation(len(embeddings))[:_MOST_PHOTOS]
    first, second = np.triu_indices(len(chosen), 1)
    same = _squared(teacher[chosen], first, second) < limit**2
    count = min(int(same.sum()), int((~same).sum()), _MOST_PAIRS)
    if count < _LEAST_PAIRS:
        return Agreement((limit / unit) ** 2, 0, 0.0)
    picked = [random.choice(np.flatnonzero(kind), count, replace=False) for kind in (same, ~same)]
    rows = np.concatenate(picked)
    distances = _squared(embeddings[chosen], first[rows], second[rows])
    threshold = soft_threshold(distances, same[rows])
    return Agreement(threshold, len(rows), float(np.mean((distances < threshold) == same[rows])))


def _squared(values: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return squared distances of rows of values (n, d), by blocks to save memory."""
    blocks = np.array_split(np.arange(len(first)), max(1, len(first) // 100_000))
    return np.concatenate([np.square(values[first[b]] - values[second[b]]).sum(1) for b in blocks])
