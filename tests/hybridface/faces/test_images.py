"""Photographs to chips: the errors of each kind of bad file, and the plaintext answers on the portraits."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.images import central_crop, face_chip, read_chip
from hybridface.faces.options import PhotoOptions
from hybridface.models.dlib_resnet import DlibResNet, normalise
from hybridface.photos import photo_path

pytestmark = pytest.mark.slow

PHOTOS = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")
SAME = {("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")}


def test_plaintext_answers() -> None:
    chips = [face_chip(photo_path(f"{name}.jpg")) for name in PHOTOS]
    assert all(chip.shape == (150, 150, 3) and chip.dtype == np.uint8 for chip in chips)
    with torch.no_grad():
        features = DlibResNet.from_dat()(torch.from_numpy(np.stack([normalise(chip) for chip in chips]))).numpy()
    embedding = dict(zip(PHOTOS, features, strict=True))
    answers = {
        pair for pair in combinations(PHOTOS, 2) if np.linalg.norm(embedding[pair[0]] - embedding[pair[1]]) < 0.6
    }
    assert answers == SAME


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.open(photo_path("impostor_1.jpg"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored image is to be turned by 90 degrees clockwise
    path = tmp_path / "turned.png"
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert np.array_equal(face_chip(path), face_chip(photo_path("impostor_1.jpg")))


def test_large_photo_is_scaled_down(tmp_path: Path) -> None:
    image = Image.open(photo_path("impostor_1.jpg")).convert("RGB")
    path = tmp_path / "large.jpg"
    image.resize((3000 * image.width // image.height, 3000)).save(path, quality=95)
    chip = face_chip(path).astype(float)
    assert np.abs(chip - face_chip(photo_path("impostor_1.jpg"))).mean() < 15


def test_a_photo_that_breaks_off_above_or_below_the_face() -> None:
    data = photo_path("person_b_1.jpg").read_bytes()
    accepted = PhotoOptions(accept_damaged=True, on_warning=lambda _: None)
    chip = face_chip(data[: round(0.8 * len(data))], options=accepted)
    assert np.abs(chip.astype(float) - face_chip(data)).mean() < 1
    with pytest.raises(
        ImageError, match="^the photo: (expected a photo with a whole face, but|expected one face, found 0)"
    ):
        face_chip(data[: round(0.42 * len(data))], options=accepted)


def test_a_file_that_is_no_photo(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("not a photograph")
    for read in (face_chip, lambda path: read_chip(path, 150), lambda path: central_crop(path, 150)):
        with pytest.raises(ImageError, match=r"^text\.jpg: expected a photo, got a text file; the formats"):
            read(path)
        with pytest.raises(ImageError, match=r"^none\.jpg: no such file$"):
            read(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="expected the name of a portrait"):
        photo_path("nobody.jpg")


def test_a_photo_may_be_in_memory() -> None:
    path = photo_path("impostor_1.jpg")
    chip = face_chip(path)
    image = Image.open(path)
    with path.open("rb") as file:
        for photo in (str(path), path.read_bytes(), file, image, np.asarray(image)):
            assert np.array_equal(face_chip(photo), chip)


def test_chip_must_have_its_size(tmp_path: Path) -> None:
    path = tmp_path / "chip.png"
    chip = face_chip(photo_path("impostor_2.jpg"))
    Image.fromarray(chip).save(path)
    assert np.array_equal(read_chip(path, 150), chip)
    with pytest.raises(ImageError, match=r"^chip\.png: expected 112x112 pixels, got 150x150$"):
        read_chip(path, 112)
