"""Pictures to read: smooth ones that show which side is up, and their files."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["difference", "encoded", "picture"]


def picture(width: int = 160, height: int = 120) -> Image.Image:
    """Return a smooth RGB picture without symmetry, and without black."""
    x, y = np.meshgrid(np.linspace(40, 250, width), np.linspace(40, 250, height))
    return Image.fromarray(np.stack([x, y, 0.3 * x + 0.4 * y + 30], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture's file, in Pillow's name of a format."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(image: Image.Image, expected: Image.Image | NDArray[np.uint8]) -> float:
    """Return the mean difference of two pictures of one size."""
    first, second = np.asarray(image, dtype=float), np.asarray(expected, dtype=float)
    assert first.shape == second.shape
    return float(np.abs(first - second).mean())
