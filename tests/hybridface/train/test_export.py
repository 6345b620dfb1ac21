"""Export: the network is the student, also joined with others and mirrored."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hybridface.errors import ModelError
from hybridface.models.patches import cut
from hybridface.models.patchnet import (
    PatchShape,
    mirrored,
    read_patchnet,
    read_shape,
    stored,
    write_patchnet,
)
from hybridface.train import export, loop, student
from support.students import COMPONENTS, GRID, OUTPUTS, WIDTHS, embed, faces, trainer


@pytest.mark.slow
@pytest.mark.parametrize("contrast", [False, True])
def test_export_is_the_student(examples: loop.Examples, contrast: bool) -> None:
    run = trainer()
    run.run(examples)
    shape, images = PatchShape(GRID, WIDTHS, OUTPUTS, 1.0, contrast), faces(30, seed=8)
    basis = student.fit_basis(faces(200), GRID, COMPONENTS, contrast)
    weights = export.fold(run.average, basis)
    values = cut(torch.from_numpy(images), GRID, contrast).double()
    coefficients = torch.einsum("npi,ic->npc", values, basis.directions.double()) + basis.offset.double()
    with torch.no_grad():
        expected, before_squares = run.average.double()(coefficients)
    assert float((embed(shape, weights, images) - expected).abs().max()) < 1e-6
    peaks = export.peak_values(weights, shape, images)
    for peak, value in zip(peaks, before_squares, strict=True):
        np.testing.assert_allclose(peak.reshape(-1), value.abs().amax(0).numpy(), atol=1e-6)
    rescaled = export.rescaled(weights, peaks)
    assert float((embed(shape, rescaled, images) - expected).abs().max()) < 1e-6
    for peak in export.peak_values(rescaled, shape, images):
        np.testing.assert_allclose(peak, student.RANGE)


def test_joined_students_give_their_mean(basis: student.Basis) -> None:
    images, weights = faces(5), [export.fold(trainer(seed=seed).average, basis) for seed in (1, 2)]
    each = [embed(PatchShape(GRID, WIDTHS, OUTPUTS, 1.0), member, images) for member in weights]
    both = embed(PatchShape(GRID * 2, WIDTHS, OUTPUTS, 1.0), export.joined(weights), images)
    assert float((both - (each[0] + each[1]) / 2).abs().max()) < 1e-9


@pytest.mark.parametrize("contrast", [False, True])
def test_a_mirrored_network_gives_the_mean_of_face_and_mirror_image(
    basis: student.Basis, contrast: bool, tmp_path: Path
) -> None:
    images, patches = faces(5), ((0, 0, 32, 2), (16, 10, 32, 2), (32, 32, 32, 2), (0, 0, 32, 2))
    shape = PatchShape(patches, WIDTHS, OUTPUTS, 1.0, contrast)
    weights = export.fold(trainer(seed=2).average, basis)
    mean = (embed(shape, weights, images) + embed(shape, weights, images[:, :, ::-1])) / 2
    assert float((embed(shape, weights, images) - mean).abs().max()) > 1e-2
    assert float((embed(*mirrored(shape, weights), images) - mean).abs().max()) < 1e-5
    write_patchnet(tmp_path / "net.npz", shape, weights, mirror=True)
    read = read_patchnet(tmp_path / "net.npz")
    assert len(read[0].patches) == len(read_shape(tmp_path / "net.npz").patches) == 2 * len(patches)
    assert float((embed(*read, images) - embed(*mirrored(shape, stored(weights)), images)).abs().max()) < 1e-9
    with pytest.raises(ModelError, match="expected patches within"):
        mirrored(PatchShape(((0, 0, 48, 3), *((0, 15, 48, 3),) * 3), WIDTHS, OUTPUTS, 1.0), weights)
