"""Preprocessing as data: the same numbers bit for bit as the networks' own definitions, and strict readers."""

import json
from typing import Any

import numpy as np
import pytest

from hybridface.errors import ModelError
from hybridface.models.dlib_resnet import MEANS
from hybridface.models.dlib_resnet import normalise as dlib_normalise
from hybridface.models.patches import PatchCutting
from hybridface.models.preprocessing import (
    ChannelScaling,
    Preprocessing,
    preprocessing_document,
    preprocessing_from_document,
)
from hybridface.models.tiny import tiny_normalise
from protocols.document import parsed
from protocols.errors import ProtocolError

SCALING = ChannelScaling(16, (1.5, 2.0, 0.1), 256.0)
CUTTING = PatchCutting(((0, 2, 8, 2), (56, 48, 8, 2)), True)


def read(document: dict[str, Any]) -> Preprocessing:
    """Return what a document that went over a wire describes."""
    return preprocessing_from_document(parsed(json.dumps(document).encode(), "a test"))


def random_chip(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_dlib_s_scaling_is_that_of_its_input_layer() -> None:
    chip = random_chip(150)
    expected = np.ascontiguousarray(((chip - np.array(MEANS)) / 256).transpose(2, 0, 1))
    found = dlib_normalise(chip)
    assert found.tobytes() == expected.tobytes()
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float64, (3, 150, 150), True)


def test_the_tiny_network_s_scaling() -> None:
    chip = random_chip(16)
    expected = np.ascontiguousarray((chip.transpose(2, 0, 1) - 127.5) / 128)
    assert tiny_normalise(chip).tobytes() == expected.tobytes()


@pytest.mark.parametrize("chip", [np.zeros((16, 15, 3), np.uint8), np.zeros((16, 16, 3))])
def test_other_crops_are_refused(chip: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"expected an aligned crop \(16, 16, 3\) of uint8"):
        SCALING(chip)


@pytest.mark.parametrize("preprocessing", [SCALING, CUTTING])
def test_it_comes_back(preprocessing: Preprocessing) -> None:
    found = read(preprocessing_document(preprocessing))
    assert found == preprocessing
    chip = random_chip(preprocessing.size)
    assert found(chip).tobytes() == preprocessing(chip).tobytes()
    assert found(chip).shape == preprocessing.output_shape


WRONG: dict[str, tuple[Preprocessing, dict[str, Any], str]] = {
    "an unknown kind": (SCALING, {"kind": "eval"}, "expected kind to be one of channel scaling, patches"),
    "a size of 0": (SCALING, {"size": 0}, "expected size"),
    "a size too large": (SCALING, {"size": 513}, "expected size"),
    "a size that is not whole": (SCALING, {"size": 16.0}, "expected size"),
    "two means": (SCALING, {"means": [1, 2]}, "expected means"),
    "a mean that no pixel has": (SCALING, {"means": [1, 2, 256]}, "expected means"),
    "a scale of 0": (SCALING, {"scale": 0}, "expected scale"),
    "another field": (SCALING, {"contrast": True}, "expected no other fields"),
    "no patches": (CUTTING, {"patches": []}, "expected patches"),
    "too many patches": (CUTTING, {"patches": [[0, 0, 8, 2]] * 1025}, "expected patches"),
    "a patch outside": (CUTTING, {"patches": [[60, 0, 8, 2]]}, "expected patches within 64x64"),
    "a patch of no squares": (CUTTING, {"patches": [[0, 0, 8, 0]]}, "expected patches within 64x64"),
    "a patch of three numbers": (CUTTING, {"patches": [[0, 0, 8]]}, "expected patches"),
    "patches of two sizes": (CUTTING, {"patches": [[0, 0, 8, 2], [0, 0, 8, 1]]}, "expected patches of one size"),
    "contrast as a number": (CUTTING, {"contrast": 1}, "expected contrast"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case: str) -> None:
    preprocessing, change, message = WRONG[case]
    with pytest.raises(ProtocolError, match=message):
        read(preprocessing_document(preprocessing) | change)


@pytest.mark.parametrize("preprocessing", [SCALING, CUTTING])
def test_every_field_is_needed(preprocessing: Preprocessing) -> None:
    for name in preprocessing_document(preprocessing):
        document = preprocessing_document(preprocessing)
        del document[name]
        with pytest.raises(ProtocolError, match=f"expected {name} to be .*, got nothing"):
            read(document)
