"""Files to upright pictures: every format and orientation, damage, animations, and bounds."""

import functools
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageFile, ImageOps, PngImagePlugin

from hybridface.errors import ImageError
from hybridface.faces import decoding
from hybridface.faces.decoding import MAX_PIXELS, decode
from hybridface.faces.options import AS_GIVEN, PhotoOptions, PhotoWarning
from support.pictures import difference, encoded, picture

ACCEPTED = PhotoOptions(accept_damaged=True)
KINDS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
WITH_ORIENTATION = ("AVIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")
STORED = {  # how a picture is to be turned so that its orientation, when undone, gives it back
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@functools.cache
def file(kind: str, **options: Any) -> bytes:
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    return encoded(picture(), kind, **options)


def turned(kind: str, orientation: int) -> bytes:
    """Return the file of a picture that is stored turned, and says so."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    stored = picture().transpose(STORED[orientation]) if orientation > 1 else picture()
    return encoded(stored, kind, exif=exif.tobytes() if kind == "HEIF" else exif)


@pytest.mark.parametrize("kind", KINDS)
def test_formats(kind: str) -> None:
    shown = decode(file(kind), AS_GIVEN)
    assert shown.size == shown.image.size == picture().size
    assert difference(shown.image, picture()) < (5 if kind in ("GIF", "AVIF", "HEIF") else 2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", WITH_ORIENTATION)
def test_orientations(kind: str, orientation: int) -> None:
    shown = decode(turned(kind, orientation), AS_GIVEN)
    assert shown.size == (160, 120)
    assert difference(shown.image, picture()) < 5


def test_an_image_in_memory_is_turned_and_stays_as_it_is() -> None:
    image = Image.open(BytesIO(turned("PNG", 6)))
    before = dict(image.info)
    assert difference(decode(image, AS_GIVEN).image, picture()) == 0
    assert (image.size, dict(image.info)) == ((120, 160), before)
    assert difference(decode(np.asarray(picture()), AS_GIVEN).image, picture()) == 0


def test_an_image_in_memory_that_cannot_be_loaded() -> None:
    with pytest.raises(ImageError, match="^the photo: cannot decode the image: image file is truncated"):
        decode(Image.open(BytesIO(file("BMP")[:-2000])), AS_GIVEN)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_of_several_pictures_is_used_and_said(kind: str) -> None:
    second = ImageOps.invert(picture())
    data = encoded(
        picture(), kind, save_all=True, append_images=[second], **({} if kind == "TIFF" else {"duration": 50})
    )
    said: list[str] = []
    assert difference(decode(data, PhotoOptions(on_warning=said.append)).image, picture()) < 6
    assert said == ["the photo: the file holds several pictures; only the first of them is used"]
    with pytest.warns(PhotoWarning, match="only the first of them is used"):
        decode(data, AS_GIVEN)


def test_a_phones_jpeg_with_a_second_picture() -> None:
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture().resize((40, 30))])
    said: list[str] = []
    assert difference(decode(data, PhotoOptions(on_warning=said.append), side=160).image, picture()) < 2
    assert said == []


def cut(kind: str, share: float, **options: Any) -> bytes:
    data = file(kind, **options)
    return data[: round(share * len(data))]


@pytest.mark.parametrize(
    ("kind", "options", "side"),
    [
        ("JPEG", {}, "lower"),
        ("PNG", {}, "lower"),
        ("PPM", {}, "lower"),
        ("TIFF", {}, "lower"),
        ("GIF", {"interlace": 0}, "lower"),
        ("BMP", {}, "upper"),
        ("TGA", {}, "upper"),
    ],
)
def test_a_file_that_breaks_off(tmp_path: Path, kind: str, options: dict[str, Any], side: str) -> None:
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(cut(kind, 0.6, **options))
    with pytest.raises(ImageError, match=rf"^photo\.\w*: .* breaks off: the {side} \d\d % .* is missing; .*accept"):
        decode(path, AS_GIVEN)
    said: list[str] = []
    shown = decode(path, PhotoOptions(accept_damaged=True, on_warning=said.append))
    assert len(said) == 1
    assert said[0].startswith(f"{path.name}: the file breaks off: the {side} ")
    assert shown.missing is not None
    there = np.asarray(shown.missing) == 0
    assert 0.2 < there.mean() < 0.8
    assert np.abs(np.asarray(shown.image).astype(float) - np.asarray(picture()))[there].mean() < 6
    assert kind == "GIF" or not np.asarray(shown.image)[~there].any()


@pytest.mark.parametrize("missing", [1, 2, 100])
def test_a_jpeg_that_lacks_its_last_bytes(missing: int) -> None:
    with pytest.raises(ImageError, match="breaks off: the lower .* % of the picture is missing"):
        decode(file("JPEG")[:-missing], AS_GIVEN)
    shown = decode(file("JPEG")[:-missing], PhotoOptions(accept_damaged=True, on_warning=lambda _: None))
    assert shown.missing is not None
    assert np.asarray(shown.missing).mean() < 0.3 * 255


@pytest.mark.parametrize(("orientation", "side"), [(3, "upper"), (6, "left"), (8, "right"), (5, "right"), (7, "left")])
def test_what_is_missing_is_said_of_the_upright_photo(orientation: int, side: str) -> None:
    data = turned("JPEG", orientation)
    with pytest.raises(ImageError, match=f"the {side} .* % of the picture is missing"):
        decode(data[: round(0.7 * len(data))], AS_GIVEN)


def test_a_progressive_jpeg_that_breaks_off() -> None:
    data = file("JPEG", progressive=True)
    scans = [place for place in range(len(data)) if data.startswith(b"\xff\xda", place)]
    said: list[str] = []
    shown = decode(data[: scans[-1]], PhotoOptions(accept_damaged=True, on_warning=said.append))
    assert said == ["the photo: the file breaks off: all of the picture is there, but coarser than it was"]
    assert (shown.missing, difference(shown.image, picture()) < 10) == (None, True)
    with pytest.raises(ImageError, match="cannot decode this JPEG file: image file is truncated"):
        decode(data[: (scans[0] + scans[1]) // 2], ACCEPTED)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {"interlace": 1}), ("WEBP", {}), ("AVIF", {}), ("HEIF", {})])
def test_a_part_that_cannot_be_told_is_not_accepted(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=f"^the photo: cannot decode this {kind} file: "):
        decode(cut(kind, 0.6, **options), ACCEPTED)


def test_a_file_that_is_damaged_within_is_not_accepted() -> None:
    data = bytearray(file("PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(ImageError, match="^the photo: cannot decode this PNG file: "):
        decode(bytes(data), ACCEPTED)


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_is_one_line(kind: str) -> None:
    data, random, texts = file(kind), np.random.default_rng(1), []
    for share in np.linspace(0, 1, 40):
        broken = bytearray(data[: int(share * len(data))])
        for place in random.integers(0, len(data), 4):
            if place < len(broken):
                broken[place] = random.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                decode(bytes(broken), PhotoOptions(accept_damaged=True, on_warning=lambda _: None))
            except ImageError as error:
                texts.append(str(error))
    assert texts
    assert all(text.isprintable() for text in texts), "one line"
    assert not any(" at 0x" in text for text in texts), "no object's address"


@pytest.mark.parametrize("exif", [b"Exif\0\0broken", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"", b"Exif\0\0" + bytes(50)])
def test_corrupt_exif_data_are_ignored_in_silence(exif: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert difference(decode(file("JPEG", exif=exif), AS_GIVEN).image, picture()) < 2
    assert capfd.readouterr() == ("", "")


def test_a_palettes_transparency_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(picture().convert("P"), "PNG", transparency=bytes([255] * 200))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(data, AS_GIVEN)
    assert capfd.readouterr() == ("", "")


def test_libtiff_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(file("TIFF", compression="tiff_lzw"))
    data[300:3000] = bytes(2700)
    with pytest.raises(ImageError, match="cannot decode this TIFF file"):
        decode(bytes(data), AS_GIVEN)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [9000, 14000])
def test_too_many_pixels(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(ImageError, match=r"^huge\.png: expected (1 pixel to|at most) 80 megapixels, got "):
        decode(path, AS_GIVEN)


def header(kind: bytes, width: int, height: int) -> bytes:
    """Return a PNG file without pixels, that says it has so many."""
    file = BytesIO()
    PngImagePlugin.putchunk(file, b"IHDR", width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0]))
    PngImagePlugin.putchunk(file, b"IDAT", b"")
    return b"\x89PNG\r\n\x1a\n" + file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_is_known_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data, decoded = file(kind), []
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    with pytest.raises(ImageError, match="megapixels, got 160x120$"):
        decode(data, AS_GIVEN)
    assert not decoded


@pytest.mark.parametrize("size", [(0, 5), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1)])
def test_impossible_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="^the photo: "):
        decode(header(b"", *size), AS_GIVEN)


def large_jpeg(width: int, height: int, **options: Any) -> bytes:
    return encoded(Image.new("L", (width, height), 200), "JPEG", quality=20, **options)


@pytest.mark.slow
def test_photos_of_phones_with_many_pixels() -> None:
    shown = decode(large_jpeg(16320, 12240), AS_GIVEN, side=3200)
    assert (shown.size, shown.image.size) == ((16320, 12240), (4080, 3060))
    shown = decode(large_jpeg(8160, 6144, exif=_on_its_side()), AS_GIVEN, side=3200)
    assert (shown.size, shown.image.size) == ((6144, 8160), (3072, 4080))


def _on_its_side() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif


def test_limits_of_jpeg_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 20_000_000)
    monkeypatch.setattr(decoding, "MAX_JPEG_PIXELS", 40_000_000)
    assert decode(large_jpeg(6000, 6000), AS_GIVEN, side=3000).image.size == (3000, 3000)
    with pytest.raises(ImageError, match="expected 1 pixel to 20 megapixels, got 6000x6000"):
        decode(large_jpeg(6000, 6000), AS_GIVEN)  # at its full size
    with pytest.raises(ImageError, match="expected 1 pixel to 20 megapixels, got 6000x6000"):
        decode(large_jpeg(6000, 6000, progressive=True), AS_GIVEN, side=3000)
    with pytest.raises(ImageError, match="expected 1 pixel to 40 megapixels, got 6400x6400"):
        decode(large_jpeg(6400, 6400), AS_GIVEN, side=3000)
    with pytest.raises(ImageError, match="expected 1 pixel to 20 megapixels, got 6000x6000"):
        decode(large_jpeg(6000, 6000), AS_GIVEN, side=5000)  # which cannot be reduced to it


def test_arrays_and_images_have_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    for photo in (np.zeros((11, 10)), Image.new("RGB", (10, 11)), np.zeros((0, 3))):
        with pytest.raises(ImageError, match="^the photo: expected 1 pixel to "):
            decode(photo, AS_GIVEN)


@pytest.mark.parametrize("limit", ["_SLOW_PIXELS", "_SLOW_BYTES"])
def test_what_python_decodes_has_a_lower_limit(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    plain = b"P2 20 10 255 " + b"77 " * 200
    deep = b"P6 20 10 65535 " + bytes(1200)
    for data in (plain, deep):
        assert decode(data, AS_GIVEN).size == (20, 10)
    monkeypatch.setattr(decoding, limit, 199)
    for data in (plain, deep):
        with pytest.raises(
            ImageError, match="^the photo: expected (1 pixel to 0 megapixels, got 20x10|at most 199 bytes)"
        ):
            decode(data, AS_GIVEN)
    assert decode(b"P5 20 10 255 " + bytes(200), AS_GIVEN).size == (20, 10)
