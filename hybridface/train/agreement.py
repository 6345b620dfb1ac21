"""Choose a threshold without labels: the one with which the student agrees most often with its teacher.

No labels say which photos show the same person. So the teacher decides, with its own threshold. The pairs come from
held-out photos, on which the student was not trained. Half of the pairs are pairs that the teacher takes for one
person. The other half are random pairs that it takes for different people.
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
    """The threshold, and how often the student then decides as the teacher does.

    Args:
        threshold: the threshold of raw squared distances.
        pairs: the number of pairs of held-out photos that gave the threshold. The teacher takes half of them for one
            person. It is 0 if the teacher found too few pairs; then the threshold is the teacher's own, in the
            student's units.
        share: the share of these pairs on which both decide alike; 0 without pairs.
    """

    threshold: float
    pairs: int
    share: float


def held_out_photos(photos: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose which photos (n,) to hold out from training: random folders if there are enough, else random photos.

    Raises:
        ImageError: there are too few photos for the fraction.
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
        embeddings: the student's embeddings, (n, d).
        teacher: the teacher's embeddings, (n, d), neither centred nor scaled.
        limit: the teacher's threshold, as a Euclidean distance.
        unit: the length by which training divided the teacher's distances.
        seed: the seed of the random choices.
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
    """Return the squared distances of rows of values (n, d). Compute them in blocks, to save memory."""
    blocks = np.array_split(np.arange(len(first)), max(1, len(first) // 100_000))
    return np.concatenate([np.square(values[first[b]] - values[second[b]]).sum(1) for b in blocks])
