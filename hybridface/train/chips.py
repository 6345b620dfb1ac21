"""Photos to aligned faces, once: alignment takes far longer than an epoch, so its results stay on disk.

Two chips per photo: one as the student sees it in use, and a larger one with more margin around the same face, from
which changed views are cut. A photo in which no face is found counts as its central crop, and is marked.
"""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from hybridface.errors import ImageError
from hybridface.evaluate import chip_or_centre, unpacked
from hybridface.images import face_chips
from hybridface.models.patchnet import CHIP_SIZE

__all__ = ["FACE_SIZE", "WIDE_SIZE", "Chips", "load_chips", "photo_names"]

FACE_SIZE, WIDE_SIZE = 150, 190
"""Pixels of the usual part of a wide chip, in its middle, and of all of it: the same scale, more margin."""

_PADDING, _WIDE_PADDING = 0.25, 0.45
_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

Made = tuple[NDArray[np.uint8], NDArray[np.uint8], bool]


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


def photo_names(folder: Path) -> list[str]:
    """Return the photos in a folder at any depth, sorted, relative to it.

    Raises:
        ImageError: there are none.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not names:
        raise ImageError(f"{folder}: expected photos, found none")
    return names


def load_chips(images: Path, cache: Path, workers: int = 2, shown: bool = True) -> Chips:
    """Return the chips of all photos in a folder or tar file; align them first unless `cache` has them.

    Raises:
        ImageError: the images cannot be read, or there are none.
    """
    with unpacked(images) as source:
        photos = photo_names(source)
        sizes = [[name, (source / name).stat().st_size] for name in photos]
        folder = cache / hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]
        if not (folder / "detected.npy").is_file():
            _align(source, photos, folder, workers, shown)
    small, wide = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("small", "wide"))
    return Chips(tuple(photos), small, wide, np.load(folder / "detected.npy"), folder)


def _align(source: Path, photos: Sequence[str], folder: Path, workers: int, shown: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shapes = {"small": CHIP_SIZE, "wide": WIDE_SIZE}
    small, wide = (
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (len(photos), size, size, 3))
        for name, size in shapes.items()
    )
    detected = np.zeros(len(photos), dtype=np.bool_)
    paths = [source / photo for photo in photos]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        made = track(
            pool.imap(_chips_of, paths, chunksize=8),
            "alignment",
            len(paths),
            console=Console(stderr=True),
            disable=not shown,
        )
        for index, chips in enumerate(made):
            small[index], wide[index], detected[index] = chips
    small.flush()
    wide.flush()
    _save(folder / "detected.npy", detected)  # last: it says that the others are complete


def _chips_of(path: Path) -> Made:
    try:
        small, wide = face_chips(path, ((CHIP_SIZE, _PADDING), (WIDE_SIZE, _WIDE_PADDING)), largest_face=True)
    except ImageError:
        margin = (WIDE_SIZE - FACE_SIZE) // 2
        face = chip_or_centre(path, FACE_SIZE)[0]
        wide = np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        return chip_or_centre(path, CHIP_SIZE)[0], wide, False
    return small, wide, True


def _save(path: Path, array: NDArray[np.bool_]) -> None:
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, array)
    os.replace(temporary, path)
