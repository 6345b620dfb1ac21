"""What a student is told: to point where the teacher points, to keep the teacher's distances, and to stay in range.

Raw squared distances decide in the end, without a division by norms, so embeddings must have nearly one length; and
values before squares must stay small, for a ciphertext's precision is limited.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)

from hybridface.train.student import RANGE

__all__ = ["Losses", "distillation"]

_DISTANCE, _LENGTH, _RANGE = 1.0, 0.1, 1.0


@dataclass(frozen=True)
class Losses:
    """Scalar tensors, each a mean over a batch.

    Args:
        direction: 1 - cosine of student and teacher.
        distance: squared error of the squared distances of all pairs in the batch, over 4.
        length: squared error of the squared length, which should be 1.
        range: squared excess over `RANGE` of values before squares, per value.
    """

    direction: Any
    distance: Any
    length: Any
    range: Any

    @property
    def total(self) -> Any:
        """The weighted sum that is minimised."""
        return self.direction + _DISTANCE * self.distance + _LENGTH * self.length + _RANGE * self.range


def distillation(embeddings: Any, before_squares: list[Any], targets: Any) -> Losses:
    """Return the losses of embeddings (batch, d) against the teacher's (batch, d), of length about 1."""
    difference = _squared_distances(embeddings) - _squared_distances(targets)
    excess = [F.relu(values.abs() - RANGE).square().mean() for values in before_squares]
    return Losses(
        (1 - F.cosine_similarity(embeddings, targets)).mean(),
        difference.square().mean() / 4,
        (embeddings.square().sum(1) - 1).square().mean(),
        torch.stack(excess).sum(),
    )


def _squared_distances(values: Any) -> Any:
    squares = values.square().sum(1)
    return squares[:, None] + squares - 2 * values @ values.T
