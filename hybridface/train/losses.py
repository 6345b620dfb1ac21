"""Compute the losses of a student against its teacher.

They make the student's embeddings point where the teacher's point, keep the teacher's distances, and keep values in
range. The final decision uses raw squared distances, without a division by norms. So all embeddings must have nearly
the same length. Values before squares must stay small, because a ciphertext's precision is limited.
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
        direction: 1 minus the cosine of the student's and the teacher's embedding.
        distance: the squared error of the squared distances of all pairs in the batch, divided by 4.
        length: the squared error of the squared length of an embedding, which should be 1.
        range: the squared excess over `RANGE` of values before squares, per value.
    """

    direction: Any
    distance: Any
    length: Any
    range: Any

    @property
    def total(self) -> Any:
        """The weighted sum that training minimises."""
        return self.direction + _DISTANCE * self.distance + _LENGTH * self.length + _RANGE * self.range


def distillation(embeddings: Any, before_squares: list[Any], targets: Any) -> Losses:
    """Return the losses of embeddings (batch, d) against the teacher's (batch, d), whose length is about 1."""
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
