"""Which face of a photo counts, what a user hears if none does, and large photos."""

import numpy as np
import pytest
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces import detection
from hybridface.faces.images import face_chip
from hybridface.faces.options import PhotoOptions
from hybridface.photos import photo_path
from support.pictures import encoded
from support.portraits import portrait, two_people

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both() -> Image.Image:
    """A photo of two people."""
    return two_people()


def test_several_faces_are_refused_with_their_places(both: Image.Image) -> None:
    with pytest.raises(ImageError) as caught:
        face_chip(both)
    text = str(caught.value)
    assert text.startswith("the photo: expected one face, found 2: ")
    assert "--face largest or --face centre" in text
    places = text.partition("found 2: ")[2].partition(" (pixels")[0].split(", ", 1)
    assert len(places) == 2
    size, _, corner = text.partition("found 2: ")[2].partition(" at (")
    width, height = (int(word) for word in size.split("x"))
    left, top = (int(word) for word in corner.partition(")")[0].split(", "))
    assert (
        np.abs(
            face_chip(both.crop((left - 99, top - 99, left + width + 99, top + height + 99))).astype(float)
            - face_chip(portrait(2))
        ).mean()
        < 10
    )


@pytest.mark.parametrize(("face", "number"), [("largest", 2), ("centre", 1)])
def test_one_of_several_faces_is_chosen(both: Image.Image, face: str, number: int) -> None:
    chip = face_chip(both, options=PhotoOptions(face)).astype(float)
    assert np.abs(chip - face_chip(portrait(number))).mean() < 10


def test_places_are_of_the_upright_photo_at_its_full_size(both: Image.Image) -> None:
    large = both.resize((3 * both.width, 3 * both.height)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    texts = []
    for photo in (both, encoded(large, "JPEG", exif=exif)):
        with pytest.raises(ImageError) as caught:
            face_chip(photo)
        numbers = str(caught.value).partition("found 2: ")[2].partition(" (pixels")[0]
        texts.append(
            [
                int(word)
                for word in numbers.replace("x", " ").replace("at (", "").translate(str.maketrans("(),", "   ")).split()
            ]
        )
    assert np.abs(3 * np.array(texts[0]) - texts[1]).max() < 60


def test_no_face_says_what_was_tried_and_what_helps() -> None:
    image = Image.new("RGB", (400, 200), (128, 128, 128))
    for options in (PhotoOptions(), PhotoOptions("largest")):
        with pytest.raises(ImageError) as caught:
            face_chip(image, options=options)
        assert str(caught.value) == (
            "the photo: expected one face, found 0 in 400x200 pixels, also when enlarged twice (faces of 40 pixels or "
            "more); it helps if the face is sharp, seen from the front, tilted by less than 30 degrees, and without "
            "mask or sunglasses"
        )
    with pytest.raises(ImageError, match=r"found 0 in 4000x2000 pixels, .* \(faces of 100 pixels or more\)"):
        face_chip(image.resize((4000, 2000)))


def test_what_is_poor_about_a_photo_without_a_face_is_said() -> None:
    with pytest.raises(ImageError, match=r"or more; it has one bit per pixel; it has only 90x200 pixels\)"):
        face_chip(Image.new("1", (90, 200)))
    with pytest.raises(ImageError, match=r"or more; it is strongly compressed\)"):
        face_chip(encoded(Image.new("RGB", (300, 200)), "JPEG", quality=10))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_how_to_turn_a_photo_that_is_not_upright_is_said(degrees: int) -> None:
    message = rf"; one is found when it is turned by {degrees} degrees clockwise\)"
    with pytest.raises(ImageError, match=message):
        face_chip(portrait(1).rotate(degrees, expand=True))


@pytest.mark.parametrize("name", ["person_a_1", "person_b_1", "person_b_2"])
def test_a_large_photo_gives_the_same_face(name: str) -> None:
    image = Image.open(photo_path(f"{name}.jpg")).convert("RGB")
    width = 4400
    large = image.resize((width, round(width * image.height / image.width)), Image.Resampling.BICUBIC)
    expected = face_chip(image).astype(float)
    assert np.abs(face_chip(large) - expected).mean() < 12
    assert np.abs(face_chip(encoded(large, "JPEG", quality=92)) - expected).mean() < 12


def test_a_small_face_in_a_large_photo_is_cut_from_the_photo_itself() -> None:
    face = portrait(1)
    large = Image.new("RGB", (6000, 4000), (128, 128, 128))
    large.paste(face, (3000, 2000))
    chip, expected = face_chip(large).astype(float), face_chip(face).astype(float)
    assert np.abs(chip - expected).mean() < 8
    reduced = large.resize((1600, 1067)).resize(large.size)
    coarse = face_chip(reduced.crop((3000, 2000, 3000 + face.width, 2000 + face.height))).astype(float)
    sharpness = [np.abs(np.diff(one, axis=0)).mean() for one in (chip, coarse, expected)]
    assert sharpness[1] < 0.8 * sharpness[0] < sharpness[2], "as in the photo, and finer than in the reduced copy"


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (5, 7), (20000, 2)])
def test_pictures_of_odd_shapes_have_no_face(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="expected one face, found 0"):
        face_chip(Image.new("RGB", size))


def test_a_face_at_the_edge_is_cut_out() -> None:
    image = portrait(1)
    large = image.resize((3 * image.width, 3 * image.height))
    left, top, right, bottom = (round(value) for value in detection.find_face(_picture(large), PhotoOptions()).box)
    edge = large.crop((max(0, left + 20), max(0, top + 20), right, bottom)).resize((2400, 2400))
    assert face_chip(edge).shape == (150, 150, 3)


def _picture(image: Image.Image) -> detection.Picture:
    return detection.Picture("x", image, image.size)


def test_a_face_that_is_partly_missing_is_refused() -> None:
    image = portrait(1)
    face = detection.find_face(_picture(image), PhotoOptions()).box
    top, bottom = face[1], face[3]

    def find_without(first: float, end: float) -> detection.Box:
        missing = Image.new("L", image.size, 0)
        missing.paste(255, (0, round(first), image.width, round(end)))
        return detection.find_face(detection.Picture("x", image, image.size, missing), PhotoOptions()).box

    assert find_without(0, top / 2) == find_without((bottom + image.height) / 2, image.height) == face
    for rows in ((bottom - 30, image.height), (0, top + 30), (top, bottom)):
        with pytest.raises(ImageError, match="^x: expected a photo with a whole face, but the file breaks off there"):
            find_without(*rows)
