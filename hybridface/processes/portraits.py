"""Photos of a run, read before its ranks start: a bad photo ends the command at once, and no rank waits for it.

The client's rank gets aligned crops in a folder that only its user can enter. The folder is removed after the run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridface.faces.inputs import load_chips
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.folders import temporary_folder

__all__ = ["aligned_photos", "write_chip"]


@contextmanager
def aligned_photos(
    photos: Sequence[Path], size: int, aligned: bool = False, options: PhotoOptions = AS_GIVEN
) -> Iterator[tuple[Path, ...]]:
    """Find and cut out the faces of photos; give PNG files of the aligned crops, which exist during this block only.

    Args:
        size: the network's `chip_size`, in pixels.
        aligned: whether the photos are aligned crops already.
        options: as for `load_chips`.

    Raises:
        ImageError: a photo is unreadable, or does not show the one face that counts.
    """
    chips = load_chips(list(photos), size, aligned, options)
    with temporary_folder() as folder:
        yield tuple(write_chip(folder / f"{number}.png", chip) for number, chip in enumerate(chips))


def write_chip(path: Path, chip: NDArray[np.uint8]) -> Path:
    """Write an aligned crop, (size, size, 3) uint8 RGB, as PNG, and return the path."""
    Image.fromarray(chip).save(path, compress_level=0)
    return path
