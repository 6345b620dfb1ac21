"""Turn photographs into aligned crops: decode, find the face that counts, and cut it out upright at a fixed size.

This runs on the client alone, on photos that it may not trust; `opening`, `formats` and `decoding` have the bounds.
"""

import os
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.decoding import MAX_PIXELS, decode
from hybridface.faces.detection import DETECTION_SIDE, cut_face, find_face
from hybridface.faces.opening import MAX_BYTES
from hybridface.faces.options import AS_GIVEN, PhotoOptions

__all__ = ["MAX_BYTES", "MAX_PIXELS", "PADDING", "Photo", "central_crop", "face_chip", "face_chips", "read_chip"]

Photo = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.generic]
"""A path ("-" for standard input), a file's bytes, an open file, a Pillow image, or an array. An array is grey (H, W),
RGB (H, W, 3), not BGR as in OpenCV, or (H, W, 4); its values are uint8, wider integers, or floats from 0 to 1."""

PADDING = 0.25
"""The margin of an aligned crop for the networks, as a fraction of the face's size."""

_DECODED_SIDE = 2 * DETECTION_SIDE
"""Larger JPEG files are decoded at a smaller size, at which the smallest face that is found still has 80 pixels."""


def face_chip(
    photo: Photo, size: int = 150, padding: float = PADDING, options: PhotoOptions = AS_GIVEN
) -> NDArray[np.uint8]:
    """Return the aligned crop of a photograph's face, (size, size, 3) uint8 RGB.

    Args:
        photo: in one of the formats that docs/PHOTOS.md lists; it is turned upright first if it is stored otherwise.
        size: height and width of the crop, in pixels.
        padding: margin around the face, as a fraction of the face's size.
        options: which of several faces counts, and whether damage is accepted.

    Raises:
        ImageError: the photo cannot be read, is too large or damaged, or does not show the one face that counts.
        ModelError: the package face_recognition_models is not installed.
    """
    return face_chips(photo, ((size, padding),), options)[0]


def face_chips(
    photo: Photo, cuts: Sequence[tuple[int, float]], options: PhotoOptions = AS_GIVEN
) -> list[NDArray[np.uint8]]:
    """Return aligned crops of a photograph's face at several sizes, each (size, size, 3) uint8 RGB, from one detection.

    Args:
        photo, options: as for `face_chip`.
        cuts: size in pixels and padding of every crop.

    Raises:
        ImageError, ModelError: as for `face_chip`.
    """
    picture = decode(photo, options, _DECODED_SIDE)
    return cut_face(picture, find_face(picture, options), cuts)


def central_crop(photo: Photo, size: int, share: float = 0.6) -> NDArray[np.uint8]:
    """Return the middle of a photograph, (size, size, 3) uint8 RGB: a square, a share of the shorter side.

    Measurements use it where no face is found, so that every photograph counts.

    Raises:
        ImageError: the photo cannot be read.
    """
    image = decode(photo, AS_GIVEN, _DECODED_SIDE).image
    side = max(1, round(min(image.size) * share))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side)).resize((size, size))
    return np.array(crop, dtype=np.uint8)


def read_chip(photo: Photo, size: int) -> NDArray[np.uint8]:
    """Return a photo that is an aligned crop already, (size, size, 3) uint8 RGB.

    Raises:
        ImageError: the photo cannot be read, or is not exactly size x size pixels.
    """
    picture = decode(photo, AS_GIVEN)
    if picture.size != (size, size):
        got = f"{picture.size[0]}x{picture.size[1]}"
        raise ImageError(f"{picture.name}: expected {size}x{size} pixels, got {got}")
    return np.array(picture.image, dtype=np.uint8)
