"""Load the aligned crops that a student is trained on: two per photo.

The small crop is what the student sees in use. The wide crop has more margin around the same face; changed views are
cut from it. `hybridface.faces.alignment` aligns each photo once. If it finds no face in a photo, it takes the middle of
the photo and marks the photo as undetected.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.alignment import PADDING, align
from hybridface.faces.sources import open_photos
from hybridface.models.patches import CHIP_SIZE

__all__ = ["FACE_SIZE", "WIDE_SIZE", "Chips", "load_chips"]

FACE_SIZE, WIDE_SIZE = 150, 190
"""Pixels per side of the usual crop and of the wide crop: the same scale, with more margin around the face.

The usual crop is the middle of the wide crop.
"""

_WIDE_PADDING = 0.45


@dataclass(frozen=True)
class Chips:
    """The aligned crops of n photos.

    Args:
        photos: the photos' names, such as NAME/NAME_0001.jpg if the photos are in folders.
        small: (n, 64, 64, 3) uint8 RGB, from which the student's input is made.
        wide: (n, 190, 190, 3) uint8 RGB, mapped from disk.
        detected: (n,) whether a face was found.
        folder: the folder in which the crops are kept.
    """

    photos: tuple[str, ...]
    small: NDArray[np.uint8]
    wide: NDArray[np.uint8]
    detected: NDArray[np.bool_]
    folder: Path


def load_chips(images: Path, cache: Path, workers: int = 2, shown: bool = True) -> Chips:
    """Return the crops of all photos in a folder or tar file. Align the photos first, unless `cache` has the crops.

    Raises:
        ImageError: the images cannot be read, or there are none.
    """
    source = open_photos(images)
    cuts = (CHIP_SIZE, PADDING), (WIDE_SIZE, _WIDE_PADDING)
    aligned = align(source, list(source.sizes), cache, cuts, workers=workers, shown=shown)
    small, wide = aligned.chips
    return Chips(aligned.photos, small, wide, aligned.detected, aligned.folder)
