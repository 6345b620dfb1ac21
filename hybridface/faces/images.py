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
from hybridface.models.dlib_dat import packaged_path

__all__ = ["MAX_BYTES", "MAX_PIXELS", "central_crop", "face_chip", "face_chips", "read_chip"]

MAX_BYTES = 25_000_000
MAX_PIXELS = 40_000_000
DETECTION_SIDE = 1600
"""Larger photographs are scaled down to this many pixels on the long side; faces stay well above a chip's size."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


def face_chip(
    path: str | Path, size: int = 150, padding: float = 0.25, largest_face: bool = False
) -> NDArray[np.uint8]:
    """Return the aligned face of a photograph, (size, size, 3) uint8 RGB.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file; its EXIF orientation is applied.
        size: height and width of the chip, in pixels.
        padding: margin around the face, as a fraction of the face's size.
        largest_face: take the largest of several faces, instead of refusing them.

    Raises:
        ImageError: the file cannot be read, is larger than 25 MB or 40 megapixels, or does not show exactly one face.
        ModelError: the package face_recognition_models is not installed.
    """
    choice = FaceChoice.LARGEST if largest_face else FaceChoice.ONLY
    return face_chips(path, ((size, padding),), choice)[0]


def face_chips(
    path: str | Path, cuts: Sequence[tuple[int, float]], choose: FaceChoice = FaceChoice.ONLY
) -> list[NDArray[np.uint8]]:
    """Return the aligned face of a photograph at several sizes, each (size, size, 3) uint8 RGB; one detection for all.

    Args:
        path: as for `face_chip`.
        cuts: size in pixels and padding of every chip.
        choose: the face that is meant, of several.

    Raises:
        ImageError, ModelError: as for `face_chip`.
    """
    image = _decode(Path(path))
    image.thumbnail((DETECTION_SIDE, DETECTION_SIDE))
    pixels = np.array(image)
    faces = list(_detector()(pixels, 0)) or list(_detector()(pixels, 1))  # 1: enlarged twice, for small faces
    if not faces or (len(faces) > 1 and choose is FaceChoice.ONLY):
        raise ImageError(f"{Path(path).name}: expected one face, found {len(faces)}")
    landmarks = _predictor()(pixels, _chosen(faces, choose, image.size))
    return [np.asarray(dlib.get_face_chip(pixels, landmarks, *cut), dtype=np.uint8) for cut in cuts]


def central_crop(path: str | Path, size: int, share: float = 0.6) -> NDArray[np.uint8]:
    """Return the middle of a photograph, (size, size, 3) uint8 RGB, a share of its shorter side.

    What a measurement uses where no face is found, so that every photograph counts.

    Raises:
        ImageError: the file cannot be read.
    """
    image = _decode(Path(path))
    side = round(min(image.size) * share)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side)).resize((size, size))
    return np.array(crop, dtype=np.uint8)


def read_chip(path: str | Path, size: int) -> NDArray[np.uint8]:
    """Return a face that is already aligned, (size, size, 3) uint8 RGB.

    Raises:
        ImageError: the file cannot be read, or is not exactly size x size pixels.
    """
    image = _decode(Path(path))
    if image.size != (size, size):
        raise ImageError(f"{Path(path).name}: expected {size}x{size} pixels, got {image.width}x{image.height}")
    return np.array(image, dtype=np.uint8)


def _chosen(faces: Sequence[Any], choose: FaceChoice, size: tuple[int, int]) -> Any:
    """Return the rectangle of the face that is meant, in a photograph of this width and height."""
    if choose is not FaceChoice.CENTRE:
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
