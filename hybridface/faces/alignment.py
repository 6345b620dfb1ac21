"""Photos to aligned faces, once: finding and cutting out a face takes long, so the result stays on disk.

Used by measurements and by training. What is kept is biometric data of whoever is in the photos, unencrypted, in a
folder that its owner alone can enter; delete it when it is not needed any more.
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
"""A chip's size in pixels, and its padding."""


@dataclass(frozen=True)
class Aligned:
    """Aligned faces of n photos; rows of photos that were not asked for have any value.

    Args:
        photos: their names.
        chips: for every cut (n, size, size, 3) uint8 RGB, mapped from disk.
        detected: (n,) whether a face was found; the others are the photos' middles.
        folder: where they are kept, and what is made from them may be.
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
    """Makes the row of a photo, which is given by its path."""

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
    """Return aligned faces; those that are not in the cache are made first, and a run that was stopped goes on.

    Args:
        photos: all those that share a place in the cache: with their sizes in bytes they name it.
        cuts: the chips to make of every face.
        choose: the face that is meant, where several are found.
        wanted: of `photos`, those that are needed now; all of them if left out.
        on_unusable: called with the name of a photo that cannot be read, and with the reason; its row has any value. If
            left out, such a photo is an error.

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
