"""Aligned crops of many photos, kept on disk, because finding and cutting out a face takes long.

Measurements and training use this module. The crops are biometric data of the people in the photos, unencrypted, in a
folder that only its owner can enter. Delete the folder when you need it no more.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.faces.choice import FaceChoice
from hybridface.faces.images import PADDING, central_crop, face_chips
from hybridface.faces.options import PhotoOptions
from hybridface.faces.rows import RowField, Rows, Skipped, Values, fill
from hybridface.faces.sources import PhotoSource

__all__ = ["PADDING", "Aligned", "Cut", "align"]

_SCALE_OF_CROP = 0.4
_FORMAT = 1

Cut = tuple[int, float]
"""Size of an aligned crop in pixels, and its padding."""


@dataclass(frozen=True)
class Aligned:
    """Aligned crops of n photos; rows of photos that were not wanted hold arbitrary values.

    Args:
        photos: the photos' names.
        chips: the crops: for every cut an array (n, size, size, 3) uint8 RGB, mapped from disk.
        detected: (n,) whether a face was found; if not, the crop is the photo's middle.
        folder: where the crops are kept; data made from them may be kept there too.
    """

    photos: tuple[str, ...]
    chips: tuple[NDArray[np.uint8], ...]
    detected: NDArray[np.bool_]
    folder: Path

    def rows(self, photos: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of photos."""
        places = {photo: row for row, photo in enumerate(self.photos)}
        return np.array([places[photo] for photo in photos], dtype=np.int64)


@dataclass(frozen=True)
class _Cutter:
    """Make the row of a photo from its path."""

    cuts: tuple[Cut, ...]
    choose: FaceChoice
    skips: bool = False

    def __call__(self, path: Path) -> Values | Skipped:
        try:
            chips, detected = face_chips(path, self.cuts, PhotoOptions(self.choose)), True
        except ImageError:
            crops = [(size, _SCALE_OF_CROP * (1 + 2 * padding)) for size, padding in self.cuts]
            try:
                chips, detected = [central_crop(path, *crop) for crop in crops], False
            except ImageError as error:
                if self.skips:
                    return Skipped(str(error))
                raise
        return {"detected": detected, **{_name(cut): chip for cut, chip in zip(self.cuts, chips, strict=True)}}


def align(
    source: PhotoSource,
    photos: Sequence[str],
    cache: Path,
    cuts: tuple[Cut, ...],
    choose: FaceChoice = FaceChoice.CENTRE,
    wanted: Sequence[str] | None = None,
    workers: int = 2,
    shown: bool = True,
    on_unusable: Callable[[str, str], None] | None = None,
) -> Aligned:
    """Return aligned crops; make those that are not in the cache first, and continue a run that was stopped.

    Args:
        photos: all photos that share a folder in the cache; their names and sizes in bytes determine that folder.
        cuts: the crops to make of every face.
        choose: the face that counts where several are found.
        wanted: the photos that are needed now, a part of `photos`; all of them if left out.
        on_unusable: called with the name of a photo that cannot be read, and with the reason; the photo's row holds
            arbitrary values. If left out, such a photo is an error.

    Raises:
        ImageError: a photo is missing or cannot be read.
    """
    source.check(photos)
    names = tuple(photos)
    key = [_FORMAT, choose.value, cuts, [[name, source.sizes[name]] for name in names]]
    folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    fields = {_name(cut): RowField("uint8", (cut[0], cut[0], 3)) for cut in cuts}
    rows = Rows(folder, len(names), {"detected": RowField("bool"), **fields})
    missing = rows.missing(_rows(names, names if wanted is None else wanted))
    if len(missing):
        with source.folder([names[row] for row in missing]) as where:
            cutter = _Cutter(cuts, choose, on_unusable is not None)

            def skip(row: int, reason: str) -> None:
                if on_unusable:
                    on_unusable(names[row], reason)

            fill(rows, missing, lambda row: where / names[row], cutter, workers, "alignment", shown, skip)
    return Aligned(names, tuple(rows[_name(cut)] for cut in cuts), np.array(rows["detected"]), folder)


def _rows(photos: Sequence[str], wanted: Sequence[str]) -> list[int]:
    places = {photo: row for row, photo in enumerate(photos)}
    return [places[photo] for photo in wanted]


def _name(cut: Cut) -> str:
    return f"chips-{cut[0]}-{cut[1]}"
