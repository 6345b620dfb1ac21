"""Run a file's network, with its rounded weights, on photos: embeddings, ranges, accuracy and agreement."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.models.patches import cut
from hybridface.models.patchnet import PatchShape, PatchWeights, Ranges
from hybridface.train.accuracy import PairAccuracy, Split, measure
from hybridface.train.agreement import Agreement, agree
from hybridface.train.chips import Chips
from hybridface.train.views import Teacher, clean_answers

__all__ = ["Seen", "agreement_with", "look", "pair_accuracy", "ranges_of"]

_ROWS = 256


@dataclass(frozen=True)
class Seen:
    """The embeddings and peaks that a network computes from some photos.

    Args:
        rows: (n,) the rows of the photos.
        embeddings: float64 (n, d).
        peaks: the largest magnitude before every square, over all these photos; 0 if there is no photo.
    """

    rows: NDArray[np.int64]
    embeddings: NDArray[np.float64]
    peaks: tuple[float, ...]


def look(chips: Chips, rows: NDArray[np.int64], shape: PatchShape, weights: PatchWeights) -> Seen:
    """Run a network on some photos, in float64."""
    maps = [
        (torch.from_numpy(weight).transpose(1, 2), torch.from_numpy(bias)[:, None]) for weight, bias in weights.maps
    ]
    join, offset = (torch.from_numpy(value) for value in weights.join)
    embeddings, peaks = [np.empty((0, shape.outputs))], [0.0] * len(maps)
    for start in range(0, len(rows), _ROWS):
        some = torch.from_numpy(np.array(chips.small[rows[start : start + _ROWS]]))
        values = cut(some, shape.patches, shape.contrast).double().transpose(0, 1)
        for number, (weight, bias) in enumerate(maps):
            values = torch.baddbmm(bias, values, weight)
            peaks[number] = max(peaks[number], float(values.abs().max()))
            values = values.square()
        embeddings.append((values.transpose(0, 1).flatten(1) @ join.T + offset).numpy())
    return Seen(rows, np.concatenate(embeddings), tuple(peaks))


def ranges_of(*seen: Seen) -> Ranges:
    """Return the largest magnitudes over all these photos."""
    embeddings = np.concatenate([some.embeddings for some in seen])
    peaks = tuple(max(values) for values in zip(*(some.peaks for some in seen), strict=True))
    difference = (embeddings.max(0) - embeddings.min(0)).max()
    return Ranges(peaks, float(np.abs(embeddings).max()), float(difference))


def pair_accuracy(
    chips: Chips, split: Split, shape: PatchShape, weights: PatchWeights, seen: tuple[Seen, ...]
) -> PairAccuracy:
    """Measure the accuracy on every pair.

    Photos without a detected face are in no `Seen`; this function runs the network on their central crop.
    """
    used = {photo for pair in (*split.training, *split.held_out) for photo in pair[:2]}
    known = {row for some in seen for row in some.rows.tolist()}
    others = [row for row, photo in enumerate(chips.photos) if photo in used and row not in known]
    everyone = (*seen, look(chips, np.array(others, dtype=np.int64), shape, weights))
    embeddings = {
        chips.photos[row]: value
        for some in everyone
        for row, value in zip(some.rows.tolist(), some.embeddings, strict=True)
    }
    return measure({photo: value for photo, value in embeddings.items() if photo in used}, split)


def agreement_with(teacher: Teacher, chips: Chips, held_out: Seen, unit: float, seed: int) -> Agreement:
    """Choose the threshold with which the student agrees most often with the teacher on held-out photos.

    Args:
        held_out: the student's results on the held-out photos.
        unit: the length by which training divided the teacher's distances.
    """
    answers = clean_answers(chips, teacher, shown=False)[0, held_out.rows].astype(np.float64)
    return agree(held_out.embeddings, answers, teacher.model.threshold, unit, seed)
