"""Decode a photo's bytes to an upright RGB picture, with bounds on the work that an untrusted file can cause.

Size and format are known before anything is decoded. A JPEG file may have more pixels than faces need. Then only every
second, fourth or eighth pixel is decoded, which libjpeg does at a fraction of the memory and time. So photos of 200
megapixels can be read.
"""

import math
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from hybridface.errors import ImageError
from hybridface.faces.colours import array_to_image, rgb
from hybridface.faces.damage import Part, breaks_off, decoded_part
from hybridface.faces.formats import format_of
from hybridface.faces.jpeg import completed, has_several_passes, passes
from hybridface.faces.opening import PhotoFile, read_file
from hybridface.faces.options import PhotoOptions
from hybridface.faces.quiet import quietly

__all__ = ["MAX_JPEG_PIXELS", "MAX_PIXELS", "Picture", "decode"]

MAX_PIXELS = 80_000_000
"""Phones' formats, except JPEG, end at 64 megapixels. These 80 take 320 MB, and again as much while converted."""

MAX_JPEG_PIXELS = 260_000_000
"""The limit for a JPEG file that is decoded in one pass (see `jpeg`) and need not be decoded at its full size."""

_COARSE = 110
"""A JPEG file is strongly compressed if the mean step of its first quantisation table exceeds this (quality 25)."""

_SMALL = 100
"""A photo with fewer pixels on its short side is too small for most faces."""

_SLOW_PIXELS = 4_000_000
_SLOW_BYTES = 50_000_000
"""Limits for files that Pillow decodes in Python, at some seconds per megapixel: PPM files of text, PPM files of 16
bits and colour, and BMP files with run lengths."""

_PASSED_PIXELS = 10_000_000_000
"""Limit on the pixels of a JPEG file times its passes: half a minute of work. Usual files have ten passes."""

_ON_ITS_SIDE = (5, 6, 7, 8)
_ADVICE = "get the whole file, or pass --accept-damaged (accept_damaged=True) if the face is in the part that is there"


@dataclass(frozen=True)
class Picture:
    """A decoded photo.

    Args:
        name: the photo's name in messages.
        image: upright RGB; may be reduced from the photo.
        size: width and height of the upright photo.
        missing: mask of the image's size, 255 where the file has no pixels; None if all pixels are there.
        poor: defects of the stored photo that may hide a face, in words.
    """

    name: str
    image: Image.Image = field(repr=False)
    size: tuple[int, int]
    missing: Image.Image | None = None
    poor: tuple[str, ...] = ()


def decode(photo: Any, options: PhotoOptions, side: int | None = None) -> Picture:
    """Decode a photo.

    Args:
        photo: a path, "-", bytes, an open file, an array, or a Pillow image.
        side: if given, a JPEG file may be decoded at a smaller size, with at least this many pixels on the long side.

    Raises:
        ImageError: the photo is missing, too large, damaged, or is no photo.
    """
    if isinstance(photo, Image.Image):
        return _from_memory("the photo", photo)
    if isinstance(photo, np.ndarray):
        _check_pixels("the photo", (photo.shape[1], photo.shape[0]) if photo.ndim > 1 else (0, 0), MAX_PIXELS)
        return _from_memory("the photo", array_to_image(photo))
    file = read_file(photo)
    kind = format_of(file.name, file.data)
    try:
        with quietly(c_library=kind == "TIFF"):
            picture, warning = _decoded(file, kind, options, side)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{file.name}: expected at most {MAX_PIXELS // 10**6} megapixels, got far more") from error
    except Exception as error:  # Pillow's decoders raise many types on broken files
        raise ImageError(_unreadable(file, kind, error)) from error
    if warning:
        options.on_warning(f"{file.name}: {warning}")
    return picture


def _from_memory(name: str, image: Image.Image) -> Picture:
    _check_pixels(name, image.size, MAX_PIXELS)
    try:
        with quietly():
            upright = _turned(rgb(name, image.copy()), _orientation(image))
    except ImageError:
        raise
    except Exception as error:  # from an image that was opened, but not loaded yet
        raise ImageError(f"{name}: cannot decode the image: {error}") from error
    return Picture(name, upright, upright.size, poor=_poor(image))


def _decoded(file: PhotoFile, kind: str, options: PhotoOptions, side: int | None) -> tuple[Picture, str]:
    """Return the picture, and a warning or ""; all calls of decoders are in here."""
    image = _open(file.data, kind)
    full, poor = image.size, _poor(image)
    warning = "the file holds several pictures; only the first of them is used" if _has_several(image) else ""
    _check_pixels(file.name, full, MAX_JPEG_PIXELS if _is_reducible(file.data, image, side) else MAX_PIXELS)
    _check_work(file, image)
    _reduce(image, side)
    _check_pixels(file.name, image.size, MAX_PIXELS)
    part = _load(file.data, image, side)
    orientation = _orientation(image)
    missing = None
    if part:
        missing = part.missing and _turned(part.missing, orientation)
        warning = "the file breaks off: " + Part(part.image, missing).damage()
        poor += (warning,)
        if not options.accept_damaged:
            raise ImageError(f"{file.name}: expected a whole photo, but {warning}; {_ADVICE}")
    upright = _turned(rgb(file.name, part.image if part else image), orientation)
    reduced = isinstance(image, JpegImageFile)
    size = (full[::-1] if orientation in _ON_ITS_SIDE else full) if reduced else upright.size
    return Picture(file.name, upright, size, missing, poor), warning


def _open(data: bytes, kind: str) -> ImageFile.ImageFile:
    """Read a file's header."""
    if kind == "JPEG":
        return JpegImageFile(BytesIO(data))  # else one with a second picture, as phones write, gets another kind
    if kind == "HEIF":
        return _heif_reader()(BytesIO(data))
    return Image.open(BytesIO(data), formats=(kind,))


def _heif_reader() -> type[ImageFile.ImageFile]:
    """Load the package only for photos that need it: it is large."""
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise ImageError("cannot read HEIC photos: the package pillow-heif is not installed; install it") from error
    return HeifImageFile


def _is_reducible(data: bytes, image: ImageFile.ImageFile, side: int | None) -> bool:
    if side is None or not isinstance(image, JpegImageFile):
        return False
    return not has_several_passes(data, image.layers)


def _reduce(image: ImageFile.ImageFile, side: int | None) -> None:
    """Make a JPEG file decode at an eighth, a fourth or half of its size, if its long side stays long enough."""
    if side is not None and isinstance(image, JpegImageFile):
        share = side / max(image.size)
        image.draft(None, (max(1, math.ceil(image.width * share)), max(1, math.ceil(image.height * share))))


def _load(data: bytes, image: ImageFile.ImageFile, side: int | None) -> Part | None:
    """Decode a picture; return the part that is there if it is damaged, None if it is whole."""
    extents = [tile[1] for tile in image.tile]
    try:
        image.load()
        return None
    except OSError as error:
        if not breaks_off(error):
            raise
        part = decoded_part(image, extents)
        if part:
            return part
        whole = completed(data) if image.info.get("progressive") else None
        if whole is None:
            raise
    coarse = JpegImageFile(BytesIO(whole))
    _reduce(coarse, side)
    coarse.load()
    return Part(coarse)


def _has_several(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second picture is damaged, but it is not used
        return True


def _orientation(image: Image.Image) -> int:
    """Return a picture's orientation by its EXIF data: 1 upright (or not readable), 2 to 8 turned or mirrored."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return a picture upright."""
    image.info.clear()  # other entries may be damaged
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def _poor(image: Image.Image) -> tuple[str, ...]:
    tables = getattr(image, "quantization", None) or {}
    found = {
        "it has one bit per pixel": image.mode == "1",
        "it is strongly compressed": bool(tables) and float(np.mean(tables[min(tables)])) > _COARSE,
        f"it has only {image.width}x{image.height} pixels": min(image.size) < _SMALL,
    }
    return tuple(words for words, is_so in found.items() if is_so)


def _check_pixels(name: str, size: tuple[int, int], limit: int) -> None:
    if not 0 < size[0] * size[1] <= limit:
        raise ImageError(f"{name}: expected 1 pixel to {limit // 10**6} megapixels, got {size[0]}x{size[1]}")


def _check_work(file: PhotoFile, image: ImageFile.ImageFile) -> None:
    """Raise `ImageError` for a file that would take minutes to decode."""
    if any(tile[0] in Image.DECODERS for tile in image.tile):  # decoders written in Python
        _check_pixels(file.name, image.size, _SLOW_PIXELS)
        if len(file.data) > _SLOW_BYTES:
            raise ImageError(f"{file.name}: expected at most {_SLOW_BYTES} bytes of this kind of file, got more")
    if isinstance(image, JpegImageFile) and has_several_passes(file.data, image.layers):
        count = passes(file.data)
        if image.width * image.height * count > _PASSED_PIXELS:
            raise ImageError(f"{file.name}: expected a JPEG file of a few passes, got {count} of them; save it again")


def _unreadable(file: PhotoFile, kind: str, error: Exception) -> str:
    unclear = isinstance(error, UnidentifiedImageError | SyntaxError) or not str(error)
    why = "its beginning is damaged, or it is of a rare kind" if unclear else " ".join(str(error).split())
    return f"{file.name}: cannot decode this {kind} file: {why}; get the whole file, or save the photo again as JPEG"
