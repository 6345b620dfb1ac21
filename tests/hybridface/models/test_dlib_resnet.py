"""dlib's network in torch against dlib itself, and the errors of its file."""

import contextlib
from pathlib import Path

import _dlib_pybind11 as dlib
import numpy as np
import pytest
import torch

from hybridface.errors import ModelError
from hybridface.faces.images import face_chip
from hybridface.models import dlib_dat
from hybridface.models.dlib_dat import AvgPool, Convolution, FullyConnected, Input, packaged_path, read_dat
from hybridface.models.dlib_resnet import DlibResNet, default_dat_path, normalise
from hybridface.models.model import load_model
from hybridface.photos import photo_path

PHOTOS = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")


@pytest.fixture(scope="module")
def network() -> DlibResNet:
    return DlibResNet.from_dat()


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOS)
def test_features_equal_those_of_dlib(network: DlibResNet, name: str) -> None:
    chip = face_chip(photo_path(f"{name}.jpg"))
    expected = np.array(dlib.face_recognition_model_v1(str(default_dat_path())).compute_face_descriptor(chip))
    with torch.no_grad():
        features = network(torch.from_numpy(normalise(chip))[None])[0].numpy()
    assert features.dtype == np.float64
    assert np.abs(features - expected).max() < 1e-5


def test_file_holds_29_convolutions_from_input_to_output() -> None:
    layers = read_dat(default_dat_path())
    convolutions = [layer for layer in layers if isinstance(layer, Convolution)]
    assert len(convolutions) == 29
    assert convolutions[0].filters.shape == (32, 3, 7, 7)
    assert all(layer.padding == ((0, 0) if layer.stride == (2, 2) else (1, 1)) for layer in convolutions)
    assert isinstance(layers[0], Input)
    assert layers[0].means == pytest.approx((122.782, 117.001, 104.298), abs=1e-4)
    assert layers[-2] == AvgPool((0, 0), (1, 1), (0, 0))
    assert isinstance(layers[-1], FullyConnected)
    assert layers[-1].weight.shape == (128, 256)


@pytest.mark.parametrize("kept", [0, 1, 5, 100, 300, 345, 20_000, 22_334_905, 22_466_065])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.dat"
    path.write_bytes(default_dat_path().read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cannot (read|use) model file .*cut\.dat") as caught:
        DlibResNet.from_dat(path)
    assert "\n" not in str(caught.value)


def test_file_that_ends_between_two_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.dat"
    data = default_dat_path().read_bytes()
    path.write_bytes(data[: data.rindex(b"\x01\x04fc_2")])
    with pytest.raises(ModelError, match="expected dlib's 29-layer ResNet"):
        DlibResNet.from_dat(path)


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.dat"
    path.write_text("not a network")
    with pytest.raises(ModelError, match="cannot read model file"):
        DlibResNet.from_dat(path)
    with pytest.raises(ModelError, match="cannot read model file"):
        DlibResNet.from_dat(packaged_path("shape_predictor_5_face_landmarks.dat"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read model file .*none\.dat: No such file"):
        DlibResNet.from_dat(tmp_path / "none.dat")
    with pytest.raises(ModelError, match=r"expected none\.dat from the package"):
        packaged_path("none.dat")


def test_widths_that_were_measured_are_for_the_packaged_file_alone(tmp_path: Path) -> None:
    assert load_model("dlib-resnet29", weights=False).widths
    assert load_model("dlib-resnet29", weights=False, path=tmp_path / "own.dat").widths == {}


def test_normalise_subtracts_the_means_and_refuses_other_shapes() -> None:
    chip = np.zeros((150, 150, 3), np.uint8)
    chip[2, 5] = (255, 0, 0)
    image = normalise(chip)
    assert image.shape == (3, 150, 150)
    assert image[:, 2, 5] == pytest.approx([(255 - 122.782) / 256, -117.001 / 256, -104.298 / 256])
    with pytest.raises(ModelError, match="expected an aligned crop"):
        normalise(chip[:149])
    with pytest.raises(ModelError, match="expected an aligned crop"):
        normalise(chip.astype(np.float64))


def test_the_packaged_file_is_the_one_that_was_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bytearray(default_dat_path().read_bytes())
    damaged[12_345_678] ^= 1
    path = tmp_path / default_dat_path().name
    path.write_bytes(damaged)
    monkeypatch.setattr("hybridface.models.dlib_resnet.default_dat_path", lambda: path)
    with pytest.raises(ModelError, match="expected the packaged network, it is damaged; install it again"):
        DlibResNet.from_dat()


def encoded(*numbers: int) -> bytes:
    """Return integers as dlib writes them."""
    return b"".join(
        bytes([0x08 | (0x80 if number < 0 else 0)]) + abs(number).to_bytes(8, "little") for number in numbers
    )


HUGE = (1 << 62, 1 << 62, 0, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(2, *HUGE), "expected a tensor"),
        (encoded(2, -1, -1, 1, 1), "expected a tensor"),
        (encoded(2, 1, 1, 1, 2) + np.array([1, np.nan], "<f4").tobytes(), "expected finite weights"),
        (encoded(2, 1, 1, 1, 2), "expected 8 bytes"),
    ],
)
def test_tensors_that_no_memory_holds(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        dlib_dat._Reader(data).tensor()


def test_numbers_beyond_any_float() -> None:
    with pytest.raises(ModelError, match="expected a finite number"):
        dlib_dat._Reader(encoded((1 << 63) - 1, 1000)).real()


@pytest.mark.slow
def test_a_damaged_file_is_refused_or_the_same_network(tmp_path: Path) -> None:
    """Bytes between the weights: where a layer's kind, shape and options are."""
    good, path = default_dat_path().read_bytes(), tmp_path / "own.dat"
    places = [good.index(word) for word in (b"con_4", b"affine_", b"max_pool_2", b"avg_pool_2", b"fc_2")]
    random, expected = np.random.default_rng(4), read_dat(default_dat_path())
    for position in [place + int(random.integers(-20, 60)) for place in places for _ in range(8)]:
        bad = bytearray(good)
        bad[position] ^= 1 << int(random.integers(8))
        path.write_bytes(bad)
        with contextlib.suppress(ModelError):
            found = read_dat(path)
            assert [type(layer) for layer in found] == [type(layer) for layer in expected]
            DlibResNet.from_dat(path)
