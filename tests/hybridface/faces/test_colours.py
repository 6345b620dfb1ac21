"""Pixels of any kind to RGB: every depth, transparency, palettes, print colours, and arrays."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.colours import array_to_image, rgb
from support.pictures import difference, encoded, picture

GREY = np.asarray(picture().convert("L"))


def read(data: bytes) -> Image.Image:
    return rgb("x", Image.open(BytesIO(data)))


def grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.repeat(values.round().astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey(kind: str) -> None:
    assert difference(read(encoded(Image.fromarray(GREY.astype(np.uint16) * 257), kind)), grey(GREY)) < 0.6


@pytest.mark.parametrize("white", [255, 4095, 65535, 2**31 - 1])
def test_32_bit_integers_hold_any_depth(white: int) -> None:
    values = Image.fromarray((GREY * (white / 255)).astype(np.int32))
    assert difference(read(encoded(values, "TIFF")), grey(GREY)) < 1.1


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_tiff(white: float) -> None:
    values = Image.fromarray((GREY * (white / 255)).astype(np.float32))
    assert difference(read(encoded(values, "TIFF")), grey(GREY)) < 0.6


def test_floats_overshoot_white_and_may_be_no_numbers() -> None:
    values = (GREY / 255).astype(np.float32)
    values[0, :4] = 1.2, -0.1, np.nan, np.inf
    assert np.asarray(read(encoded(Image.fromarray(values), "TIFF")))[0, :4, 0].tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize("top", [4095, 255])
def test_fewer_bits_in_a_16_bit_file(top: int) -> None:
    values = (GREY.astype(float) / GREY.max() * top).astype(np.uint16)
    assert difference(read(encoded(Image.fromarray(values), "TIFF")), grey(GREY / GREY.max() * 255)) < 1.1


def test_unsigned_32_bit_tiff() -> None:
    values = (GREY.astype(np.float64) / 255 * (2**32 - 1)).astype(np.uint32)
    data = bytearray(encoded(Image.fromarray(values.view(np.int32)), "TIFF"))
    signed = bytes([0x53, 1, 3, 0, 1, 0, 0, 0, 2])  # the tag SampleFormat, one short: signed
    assert data.count(signed) == 1
    data[data.index(signed) + 8] = 1
    assert difference(read(bytes(data)), grey(GREY)) < 1.1


def test_signed_16_bit_tiff() -> None:
    values = Image.fromarray((GREY.astype(float) / 255 * 32767).astype(np.uint16))
    assert difference(read(encoded(values, "TIFF", tiffinfo={339: 2})), grey(GREY)) < 1.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_in_which_0_is_white(dtype: type) -> None:
    values = (GREY.astype(float) * {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]).astype(dtype)
    data = bytearray(encoded(Image.fromarray(values), "TIFF"))
    black = bytes([6, 1, 3, 0, 1, 0, 0, 0, 1])  # the tag PhotometricInterpretation, one short: 0 is black
    assert data.count(black) == 1
    data[data.index(black) + 8] = 0
    assert difference(read(bytes(data)), 255 - grey(GREY)) < 0.6


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa", "PA"]
)
def test_modes(mode: str) -> None:
    colour = picture().convert({"RGBa": "RGBA", "La": "LA"}.get(mode, mode)).convert(mode)
    expected = picture().convert("L" if mode in ("1", "L", "LA", "La") else "RGB").convert("RGB")
    assert difference(rgb("x", colour), expected) < {"1": 128, "P": 25, "PA": 25}.get(mode, 3)


def test_lab() -> None:
    red = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (136, 208, 195)])  # sRGB's (255, 0, 0)
    pixel = np.asarray(rgb("x", red))[0, 0].astype(int)
    assert pixel[0] > 240
    assert pixel[1:].max() < 40


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    half = picture().convert("RGBA")
    half.paste((10, 20, 30, 0), (0, 0, 80, 120))
    shown = np.asarray(rgb("x", half.convert(mode)))
    assert (shown[:, :80] == 255).all()
    assert shown[:, 80:].mean() < 250


def test_transparency_of_a_palette_and_of_one_colour() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.putpixel((0, 0), 0)
    shown = np.asarray(read(encoded(image, "PNG", transparency=bytes([0, 255]))))
    assert (shown[0, 0].tolist(), shown[1, 1].tolist()) == ([255, 255, 255], [9, 9, 9])
    shown = np.asarray(read(encoded(Image.new("RGB", (4, 4), (1, 2, 3)).convert("RGB"), "PNG", transparency=(9, 9, 9))))
    assert shown[0, 0].tolist() == [1, 2, 3]


def test_a_picture_that_is_all_transparent() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    with pytest.raises(ImageError, match=r"^x: expected a picture, got one that is wholly transparent; save it"):
        rgb("x", image)


@pytest.mark.parametrize("white", [np.uint8(255), np.uint16(65535), np.int64(255), np.float32(1), np.float64(255)])
@pytest.mark.parametrize("shape", [(120, 160), (120, 160, 1), (120, 160, 3), (120, 160, 4)])
def test_arrays(white: np.generic, shape: tuple[int, ...]) -> None:
    values = np.ones(shape) * (GREY if len(shape) == 2 else GREY[:, :, None]) / 255
    if shape[-1] == 4:
        values[..., 3] = 1
    array = (values * float(white)).round(6 if white == 1 else 0).astype(white.dtype)
    assert difference(rgb("x", array_to_image(array)), grey(GREY)) < 0.6


def test_an_array_of_two_values() -> None:
    assert np.asarray(array_to_image(np.array([[True, False]]))).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3,)), r"an array \(H, W\), .* got \(3,\)"),
        (np.zeros((4, 4, 2)), r"got \(4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3)), r"got \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3)), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4), dtype=complex), "integers or floats, got complex128"),
        (np.array([["a"]]), "integers or floats, got <U1"),
        (np.full((4, 4), np.nan), "finite and not negative"),
        (np.full((4, 4), -1.0), "finite and not negative"),
    ],
)
def test_other_arrays_are_refused(array: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        array_to_image(array)
