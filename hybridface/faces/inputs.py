"""Load photos, or aligned crops, as a network's inputs, on the client."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.images import PADDING, Photo, face_chips, read_chip
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.models.model import Model

__all__ = ["Photo", "load_chips", "load_images"]


def load_chips(
    photos: Sequence[Photo], size: int, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
) -> list[NDArray[np.uint8]]:
    """Return the aligned crop of every photo, each (size, size, 3) uint8 RGB.

    Args:
        size: a network's `chip_size`, in pixels.
        aligned: True: the photos are aligned crops already, and nothing is detected. False: every photo is searched
            for a face. None: an array uint8 (size, size, 3) is an aligned crop, everything else a photo.
        options: which face counts, and whether damage is accepted.

    Raises:
        ImageError: a photo is unreadable, or does not show the one face that counts; or a crop has another size.
    """
    return [_chip(photo, size, aligned, options) for photo in photos]


def load_images(
    model: Model, photos: Sequence[Photo], aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
) -> NDArray[np.float64]:
    """Detect, align and normalise photos, on the client: float64 (B, C, H, W).

    Args:
        aligned, options: as for `load_chips`.

    Raises:
        ImageError: as for `load_chips`.
    """
    return np.stack([model.normalise(chip) for chip in load_chips(photos, model.chip_size, aligned, options)])


def _chip(photo: Photo, size: int, aligned: bool | None, options: PhotoOptions) -> NDArray[np.uint8]:
    looks_aligned = isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.shape == (size, size, 3)
    if aligned or (aligned is None and looks_aligned):
        return read_chip(photo, size)
    return face_chips(photo, ((size, PADDING),), options)[0]
