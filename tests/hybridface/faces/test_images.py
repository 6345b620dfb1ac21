"""Photographs to chips: the errors of each kind of bad file, and the plaintext answers on the portraits."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.images import MAX_BYTES, face_chip, read_chip
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


def test_no_face(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("RGB", (200, 200), (128, 128, 128)).save(path)
    with pytest.raises(ImageError, match=r"^grey\.png: expected one face, found 0$"):
        face_chip(path)
    with pytest.raises(ImageError, match=r"^grey\.png: expected one face, found 0$"):
        face_chip(path, options=PhotoOptions("largest"))


def test_two_faces(tmp_path: Path) -> None:
    left, right = (Image.open(photo_path(name)).convert("RGB") for name in ("impostor_2.jpg", "impostor_1.jpg"))
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    path = tmp_path / "both.png"
    both.save(path)
    with pytest.raises(ImageError, match=r"^both\.png: expected one face, found 2$"):
        face_chip(path)
    alone = face_chip(photo_path("impostor_2.jpg")).astype(float)  # the larger of the two faces
    assert np.abs(face_chip(path, options=PhotoOptions("largest")) - alone).mean() < 10


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.open(photo_path("impostor_1.jpg"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored image is to be turned by 90 degrees clockwise
    path = tmp_path / "turned.png"
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert np.array_equal(face_chip(path), face_chip(photo_path("impostor_1.jpg")))


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("P", "png")])
def test_colour_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.open(photo_path("impostor_1.jpg")).convert(mode).save(path)
    assert face_chip(path).shape == (150, 150, 3)


def test_large_photo_is_scaled_down(tmp_path: Path) -> None:
    image = Image.open(photo_path("impostor_1.jpg")).convert("RGB")
    path = tmp_path / "large.jpg"
    image.resize((3000 * image.width // image.height, 3000)).save(path, quality=95)
    chip = face_chip(path).astype(float)
    assert np.abs(chip - face_chip(photo_path("impostor_1.jpg"))).mean() < 15


def test_truncated_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    data = photo_path("person_a_1.jpg").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"^cut\.jpg: expected a photograph"):
        face_chip(path)


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("not a photograph")
    with pytest.raises(ImageError, match=r"^text\.jpg: expected a photograph"):
        face_chip(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^none\.jpg: no such file$"):
        face_chip(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="expected a photograph"):
        face_chip(tmp_path)
    with pytest.raises(ImageError, match="expected the name of a portrait"):
        photo_path("nobody.jpg")


@pytest.mark.parametrize("side", [7000, 14000])
def test_too_many_pixels(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(ImageError, match=r"^huge\.png: expected at most 40 megapixels"):
        face_chip(path)


def test_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "heavy.jpg"
    path.write_bytes(photo_path("person_a_1.jpg").read_bytes())
    with path.open("ab") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match=r"^heavy\.jpg: expected at most 25000000 bytes"):
        face_chip(path)


def test_chip_must_have_its_size(tmp_path: Path) -> None:
    path = tmp_path / "chip.png"
    chip = face_chip(photo_path("impostor_2.jpg"))
    Image.fromarray(chip).save(path)
    assert np.array_equal(read_chip(path, 150), chip)
    with pytest.raises(ImageError, match=r"^chip\.png: expected 112x112 pixels, got 150x150$"):
        read_chip(path, 112)
