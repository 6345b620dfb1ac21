"""Photos and chips as a network's inputs: which of the two an array is, and the choice of a face."""

import numpy as np
import pytest

from hybridface.faces.images import face_chip
from hybridface.faces.inputs import load_chips, load_images
from hybridface.faces.options import PhotoOptions
from hybridface.models.model import load_model
from hybridface.photos import photo_path
from protocols.errors import ParameterError

pytestmark = pytest.mark.slow


def test_inputs_are_normalised_chips() -> None:
    model = load_model("patchnet", weights=False)
    chip = face_chip(photo_path("impostor_1.jpg"), model.chip_size)
    images = load_images(model, [photo_path("impostor_1.jpg"), chip])
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], model.normalise(chip))


def test_an_array_of_the_chips_size_is_a_chip() -> None:
    chip = np.zeros((150, 150, 3), dtype=np.uint8)
    assert np.array_equal(load_chips([chip], 150)[0], chip)
    assert np.array_equal(load_chips([chip], 150, aligned=True)[0], chip)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected the face only, largest, centre, got 'left'"):
        PhotoOptions("left")
