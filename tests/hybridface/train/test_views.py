"""Views of a face."""

import torch

from hybridface.train import views
from support.students import faces


def test_views_are_faces_and_depend_on_the_seed_alone() -> None:
    wide = torch.nn.functional.interpolate(torch.from_numpy(faces(4)).permute(0, 3, 1, 2).float(), size=190)
    first, again, other = (
        views.random_faces(wide, wide.flip(0), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (4, 3, 150, 150)
    assert 0 <= float(first.min()) < float(first.max()) <= 255
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
