"""The network that a file holds, rounded weights and all, on photos: embeddings, ranges, accuracy, agreement."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.models.patchnet import PatchNet, PatchShape, PatchWeights, Ranges, cut
from hybridface.train.accuracy import Accuracy, Split, measure
from hybridface.train.agreement import Agreement, agree
from hybridface.train.chips import Chips
from hybridface.train.export import peak_values
from hybridface.train.views import Teacher, clean_answers

__all__ = ["agreement_with", "embed_all", "pair_accuracy", "ranges_over"]

_ROWS = 64


def embed_all(chips: Chips, rows: NDArray[np.int64], shape: PatchShape, weights: PatchWeights) -> NDArray[np.float64]:
    """Return the embeddings (n, d) of some photos."""
    module: Any = PatchNet.from_weights(shape, weights)
    embeddings = [np.empty((0, shape.outputs))]
    with torch.inference_mode():
        for start in range(0, len(rows), _ROWS):
            some = torch.from_numpy(np.array(chips.small[rows[start : start + _ROWS]]))
            patches = cut(some, shape.patches, shape.contrast).double()
            embeddings.append(module(patches.reshape(len(patches), -1, 1, 1)).numpy())
    return np.concatenate(embeddings)


def pair_accuracy(chips: Chips, split: Split, shape: PatchShape, weights: PatchWeights) -> Accuracy:
    """Measure on every pair; photos without a face count with their central crop."""
    used = {photo for pair in (*split.training, *split.held_out) for photo in pair[:2]}
    rows = np.array([row for row, photo in enumerate(chips.photos) if photo in used], dtype=np.int64)
    embeddings = embed_all(chips, rows, shape, weights)
    return measure({chips.photos[row]: value for row, value in zip(rows, embeddings, strict=True)}, split)


def agreement_with(
    teacher: Teacher,
    chips: Chips,
    rows: NDArray[np.int64],
    embeddings: NDArray[np.float64],
    unit: float,
    seed: int,
) -> Agreement:
    """Choose the threshold with which the student decides as the teacher does on held-out photos.

    Args:
        embeddings: the student's, of the rows.
        unit: by which the teacher's distances were divided for training.
    """
    answers = clean_answers(chips, teacher, shown=False)[0, rows].astype(np.float64)
    return agree(embeddings, answers, teacher.model.threshold, unit, seed)


def ranges_over(
    chips: Chips, rows: NDArray[np.int64], shape: PatchShape, weights: PatchWeights, embeddings: NDArray[np.float64]
) -> Ranges:
    """Return the largest magnitudes over some photos, whose embeddings are given."""
    peaks = peak_values(weights, shape, chips.small[rows])
    difference = (embeddings.max(0) - embeddings.min(0)).max()
    return Ranges(tuple(float(peak.max()) for peak in peaks), float(np.abs(embeddings).max()), float(difference))
