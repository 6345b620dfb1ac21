"""Photos, or chips that are cut already, as a network's inputs: on the client."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.images import face_chip, read_chip
from hybridface.models.model import Model

__all__ = ["Photo", "load_images"]

Photo = str | Path | NDArray[np.uint8]
"""A path, or an aligned chip: uint8 RGB (size, size, 3)."""


def load_images(model: Model, photos: list[Photo], aligned: bool = False) -> NDArray[np.float64]:
    """Detect, align and normalise photos, on the client: float64 (B, C, H, W).

    Args:
        aligned: the photos are chips already; nothing is detected.

    Raises:
        ImageError: a photo is unreadable, or does not show exactly one face.
    """
    size = model.chip_size
    chips = []
    for photo in photos:
        if isinstance(photo, np.ndarray):
            chips.append(photo)
        else:
            chips.append(read_chip(photo, size) if aligned else face_chip(photo, size))
    return np.stack([model.normalise(chip) for chip in chips])
