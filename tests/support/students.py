"""Small students, and faces for them: smooth random chips."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.models.patchnet import (
    PatchNet,
    PatchShape,
    PatchWeights,
)
from hybridface.train import distil, loop, student

__all__ = ["COMPONENTS", "GRID", "OUTPUTS", "WIDTHS", "embed", "faces", "trainer"]

GRID = distil.patch_grid(32, 2, (0, 32))


WIDTHS = (6, 4)


OUTPUTS = 5


COMPONENTS = 20


def faces(count: int, seed: int = 1) -> NDArray[np.uint8]:
    """Smooth random chips (count, 64, 64, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (count, 3, 6, 6)))
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return np.ascontiguousarray(smooth.byte().permute(0, 2, 3, 1).numpy())


def trainer(steps: int = 40, seed: int = 3) -> loop.Trainer:
    students = [student.PatchStudent(len(GRID), COMPONENTS, WIDTHS, OUTPUTS, seed) for _ in range(2)]
    return loop.Trainer(students[0], students[1], loop.Schedule(steps, batch=64, rate=1e-2, seed=seed))


def embed(shape: PatchShape, weights: PatchWeights, images: NDArray[np.uint8]) -> Any:
    inputs = np.stack([shape.normalise(image) for image in images])
    return PatchNet.from_weights(shape, weights)(torch.from_numpy(inputs)).detach()
