"""The patch network that is shipped: cutting, the layer graph against torch and the emulator, and broken files."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from hybridface.errors import ModelError
from hybridface.faces.images import face_chip
from hybridface.models import patchnet
from hybridface.models.budget import check_budget
from hybridface.models.contrast import normalised_contrast
from hybridface.models.model import Model, load_model
from hybridface.models.patchnet import (
    PATCHNET_PATH,
    PatchShape,
    PatchWeights,
    Ranges,
    read_patchnet,
    read_ranges,
    read_shape,
    write_patchnet,
    write_public,
)
from hybridface.photos import photo_path
from protocols.arithmetic.fixed_point import decode
from protocols.network.emulator import Emulator
from protocols.network.layers import Conv2d, Flatten, Square


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("patchnet")


@pytest.fixture(scope="module")
def inputs(model: Model) -> np.ndarray:
    """Three real faces, as the network's input."""
    names = ("person_b_1.jpg", "person_b_2.jpg", "impostor_1.jpg")
    return np.stack([model.normalise(face_chip(photo_path(name), model.chip_size)) for name in names])


def test_a_public_file_is_all_that_a_client_needs(tmp_path: Path) -> None:
    path = tmp_path / "public.npz"
    write_public(path, PATCHNET_PATH)
    assert read_shape(path) == read_shape(PATCHNET_PATH)
    with np.load(path) as archive:
        assert not {"W1", "b1", "J", "c", "ranges"} & set(archive)
    graphs = [load_model("patchnet", weights=False, path=file).graph.digest() for file in (path, None)]
    assert graphs[0] == graphs[1]
    with pytest.raises(ModelError, match="found no"):
        load_model("patchnet", path=path)


def test_normalise_cuts_and_averages() -> None:
    shape = PatchShape(((0, 2, 8, 2), (56, 48, 8, 2)), (4,), 2, 1.0)
    chip = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    values = shape.normalise(chip).reshape(2, 3, 4, 4)
    assert values.dtype == np.float64
    block = chip[58:60, 50:52, 1].astype(np.float64)
    assert values[1, 1, 1, 1] == pytest.approx((block.mean() - 127.5) / 127.5, abs=1e-6)
    block = chip[2:4, 8:10, 2].astype(np.float64)
    assert values[0, 2, 1, 3] == pytest.approx((block.mean() - 127.5) / 127.5, abs=1e-6)
    with pytest.raises(ModelError, match="expected an aligned crop"):
        shape.normalise(chip[:, :63])


def test_contrast_is_what_scipy_makes_of_it() -> None:
    image = np.random.default_rng(2).uniform(-1, 1, (64, 64, 3))
    got = normalised_contrast(torch.from_numpy(image.transpose(2, 0, 1)[None]))[0].numpy()

    def blurred(values: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(values, 8, mode="mirror", truncate=3))

    detail = image.mean(2) - blurred(image.mean(2))
    np.testing.assert_allclose(got[0], detail / (np.sqrt(blurred(detail**2)) + 0.05) / 2, atol=1e-9)
    for row, colour in ((1, 0), (2, 2)):
        difference = image[:, :, colour] - image[:, :, 1]
        np.testing.assert_allclose(got[row], 2 * (difference - difference[8:-8, 8:-8].mean()), atol=1e-9)


def test_contrast_takes_the_light_out() -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8) * 1.6 - 0.8, size=64, mode="bilinear")
    assert float((normalised_contrast(smooth + 0.1) - normalised_contrast(smooth)).abs().max()) < 1e-4
    grey = torch.full((1, 3, 64, 64), 0.3)
    assert float(normalised_contrast(grey).abs().max()) < 1e-4


def test_files_from_before_contrast_and_ranges(tmp_path: Path) -> None:
    with np.load(PATCHNET_PATH) as archive:
        arrays = {name: archive[name] for name in archive if name not in ("contrast", "ranges")}
    np.savez(tmp_path / "old.npz", **arrays)
    assert read_ranges(tmp_path / "old.npz") is None
    assert not read_shape(tmp_path / "old.npz").contrast
    assert load_model("patchnet", weights=False, path=tmp_path / "old.npz").threshold > 0
    np.savez(tmp_path / "bad.npz", **arrays, ranges=np.ones(2))
    with pytest.raises(ModelError, match="expected finite weights"):
        read_ranges(tmp_path / "bad.npz")


def test_the_shipped_ranges_leave_room() -> None:
    ranges = read_ranges(PATCHNET_PATH)
    assert ranges is not None
    assert min(level.headroom_bits for level in check_budget(ranges)) > 8


@pytest.mark.slow
def test_shape_fits_one_ciphertext(model: Model) -> None:
    shape = read_shape()
    assert shape.inputs <= 1024
    assert all(width & (width - 1) == 0 and len(shape.patches) * width <= 8192 for width in shape.widths)
    assert model.threshold == pytest.approx(shape.threshold**0.5)
    kinds = [type(node) for node in model.graph.nodes]
    assert kinds == [Conv2d, Square] * len(shape.widths) + [Flatten, Conv2d]
    assert PATCHNET_PATH.stat().st_size < 12_000_000


def test_the_client_learns_the_graph_without_weights(model: Model) -> None:
    public = load_model("patchnet", weights=False)
    assert public.weights is None
    assert public.module is None
    assert (public.graph.digest(), public.threshold) == (model.graph.digest(), model.threshold)


def test_the_module_is_the_formula_of_the_file(model: Model, inputs: np.ndarray) -> None:
    shape, weights = read_patchnet()
    values = inputs.reshape(len(inputs), len(shape.patches), -1)
    for weight, bias in weights.maps:
        before = np.einsum("npi,phi->nph", values, weight) + bias
        assert np.abs(before).max() < 16
        values = before**2
    expected = values.reshape(len(inputs), -1) @ weights.join[0].T + weights.join[1]
    assert model.module is not None
    got = model.module(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert np.all(np.abs(np.linalg.norm(got, axis=1) - 1) < 0.5)


def test_the_graph_is_the_module(model: Model, inputs: np.ndarray) -> None:
    assert model.weights is not None
    assert model.module is not None
    emulated = decode(Emulator(model.graph, model.weights).run(inputs).view(np.uint64))
    assert np.abs(emulated - model.module(torch.from_numpy(inputs)).detach().numpy()).max() < 5e-3


@pytest.mark.parametrize(
    "patches", [((0, 40, 32, 2),), ((1, 0, 32, 2),), ((0, 0, 20, 1),), ((0, 0, 16, 1), (0, 0, 8, 1)), ()], ids=str
)
def test_patches_that_do_not_fit_are_refused(patches: tuple[tuple[int, int, int, int], ...]) -> None:
    with pytest.raises(ModelError, match="expected patches"):
        PatchShape(patches, (4,), 2, 1.0)


@pytest.mark.slow
def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    with pytest.raises(ModelError, match="cannot read model file"):
        load_model("patchnet", path=path)
    path.write_bytes(b"PK not an archive")
    with pytest.raises(ModelError, match="cannot read model file"):
        load_model("patchnet", weights=False, path=path)
    np.savez(path, W1=np.zeros(3))
    with pytest.raises(ModelError, match="expected a patch network"):
        read_shape(path)
    shape, weights = read_patchnet()
    wider = PatchShape(shape.patches, (2 * shape.widths[0], *shape.widths[1:]), shape.outputs, shape.threshold)
    write_patchnet(path, wider, weights)
    with pytest.raises(ModelError, match="expected finite weights"):
        load_model("patchnet", path=path)
    assert read_shape(path) == wider


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small network's file, as `hybridface train` writes it."""
    shape, random = PatchShape(((0, 0, 4, 2),), (4,), 2, 1.0, contrast=True), np.random.default_rng(3)
    maps = ((random.normal(size=(1, 4, 12)), random.normal(size=(1, 4))),)
    path = tmp_path / "small.npz"
    weights = PatchWeights(maps, (random.normal(size=(2, 4)), random.normal(size=2)))
    write_patchnet(path, shape, weights, Ranges((1.0,), 2.0, 3.0), mirror=True, options="some words")
    return path


def content(path: Path) -> list[bytes]:
    shape, weights = read_patchnet(path)
    arrays = [array for layer in (*weights.maps, weights.join) for array in layer]
    return [repr((shape, read_shape(path), read_ranges(path))).encode(), *(array.tobytes() for array in arrays)]


@pytest.mark.slow
def test_any_damaged_bit_of_a_file_is_an_error_or_changes_nothing(small: Path) -> None:
    good, expected = small.read_bytes(), content(small)
    refused = 0
    places = range(0, len(good), 3)
    for position in places:
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        small.write_bytes(bad)
        refused += 1
        with contextlib.suppress(ModelError):
            assert content(small) == expected, f"byte {position}"
            refused -= 1
    assert refused > 0.7 * len(places)


def test_a_weight_that_was_changed_is_noticed(small: Path) -> None:
    """Also where the archive's own checksum was made anew."""
    with np.load(small) as archive:
        arrays = dict(archive)
    arrays["c"] = arrays["c"] + 1
    np.savez(small, **arrays)
    with pytest.raises(ModelError, match=r"small\.npz: expected the array c to fit the archive's digest, but it is"):
        read_patchnet(small)
    assert read_shape(small).outputs == 2, "of which a client reads nothing"


def test_the_packaged_network_is_the_one_that_was_packaged(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "package" / PATCHNET_PATH.name
    other.parent.mkdir()
    small.rename(other)
    read_shape(other)
    monkeypatch.setattr("hybridface.models.patchnet.PATCHNET_PATH", other)
    for read in (read_shape, read_patchnet, read_ranges):
        with pytest.raises(ModelError, match="expected the packaged network, it is damaged; install it again"):
            read(other)


def test_a_file_that_announces_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchnet, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, patches=np.zeros(2 << 20, np.uint8))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ModelError, match=r"bomb\.npz: expected arrays of at most 1048576 bytes, got 2097"):
        read_shape(path)


@pytest.mark.parametrize("name", ["widths", "outputs", "threshold", "contrast", "patches"])
@pytest.mark.parametrize("value", [2**62, -1, np.inf, np.nan, "words", [[[7]]], 0.5], ids=str)
def test_numbers_that_no_network_has(small: Path, name: str, value: Any) -> None:
    with np.load(small) as archive:
        arrays = {key: archive[key] for key in archive if key != "sha256"}
    np.savez(small, **{**arrays, name: np.array(value)})
    with contextlib.suppress(ModelError):
        read_shape(small)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.npz")
    with pytest.raises(ModelError, match=r"net\.npz: expected a plain file"):
        read_shape(tmp_path / "net.npz")
