"""A fitted basis, and examples to learn from."""

import pytest
import torch

from hybridface.train import loop, student
from support.students import COMPONENTS, GRID, OUTPUTS, faces


@pytest.fixture(scope="module")
def basis() -> student.Basis:
    return student.fit_basis(faces(200), GRID, COMPONENTS)


@pytest.fixture(scope="module")
def examples(basis: student.Basis) -> loop.Examples:
    """Chips, and targets of length 1 that depend on their colours."""
    images = faces(200)
    means = torch.from_numpy(images.reshape(200, 2, 32, 64, 3).mean((2, 3)).reshape(200, 6)[:, :OUTPUTS]).float()
    centred = means - means.mean(0)
    return loop.Examples(basis.coefficients(images), centred / centred.norm(dim=1, keepdim=True))
