"""The faces that a student is trained on: two chips per photo, aligned once by `hybridface.faces.alignment`.

One as the student sees it in use, and a larger one with more margin around the same face, from which changed views are
cut. A photo in which no face is found counts as its middle, and is marked.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.alignment import PADDING, align
from hybridface.faces.sources import open_photos
from hybridface.models.patchnet import CHIP_SIZE

__all__ = ["FACE_SIZE", "WIDE_SIZE", "Chips", "load_chips"]

FACE_SIZE, WIDE_SIZE = 150, 190
"""Pixels of the usual part of a wide chip, in its middle, and of all of it: the same scale, more margin."""

_WIDE_PADDING = 0.45


@dataclass(frozen=True)
class Chips:
    """Aligned faces of n photos.

    Args:
        photos: their names, as NAME/NAME_0001.jpg where there are folders.
        small: (n, 64, 64, 3) uint8 RGB, as the student's input is made from.
        wide: (n, 190, 190, 3) uint8 RGB, mapped from disk.
        detected: (n,) whether a face was found.
        folder: where they are kept.
    """

    photos: tuple[str, ...]
    small: NDArray[np.uint8]
    wide: NDArray[np.uint8]
    detected: NDArray[np.bool_]
    folder: Path


def load_chips(images: Path, cache: Path, workers: int = 2, shown: bool = True) -> Chips:
    """Return the chips of all photos in a folder or tar file; align them first unless `cache` has them.

    Raises:
        ImageError: the images cannot be read, or there are none.
    """
    source = open_photos(images)
    cuts = (CHIP_SIZE, PADDING), (WIDE_SIZE, _WIDE_PADDING)
    aligned = align(source, list(source.sizes), cache, cuts, workers=workers, shown=shown)
    small, wide = aligned.chips
    return Chips(aligned.photos, small, wide, aligned.detected, aligned.folder)
