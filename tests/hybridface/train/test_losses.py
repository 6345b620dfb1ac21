"""The losses."""

import pytest
import torch

from hybridface.train import losses, student


def test_losses_vanish_for_the_teachers_own_answers() -> None:
    targets = torch.nn.functional.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(2)))
    parts = losses.distillation(targets, [torch.full((9, 3), student.RANGE)], targets)
    assert float(parts.total) < 1e-6
    parts = losses.distillation(2 * targets, [torch.full((9, 3), -student.RANGE - 1)], targets)
    assert float(parts.direction) < 1e-6
    assert (float(parts.length), float(parts.range)) == pytest.approx((9.0, 1.0), rel=1e-5)
