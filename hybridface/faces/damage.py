"""The usable part of a photo whose file breaks off: the rows that were decoded before the break.

Pillow decodes into an empty picture, row after row, and gives up where the data ends. The rows after that place stay 0
in every channel. Rows that are black in the photo itself also count as missing if they are at the same edge. So a
photo that is not whole never counts as whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

__all__ = ["Part", "breaks_off", "decoded_part"]


@dataclass(frozen=True)
class Part:
    """The part of a photo that could be decoded, though its file is not whole.

    Args:
        image: a picture of the photo's size.
        missing: mask of the same size, mode "L": 255 in the missing rows. None if all rows are there, but coarser.
    """

    image: Image.Image
    missing: Image.Image | None = None

    def damage(self) -> str:
        """Say what is wrong with the photo, which must be upright by now."""
        return "all of the picture is there, but coarser than it was" if self.missing is None else _gap(self.missing)


def breaks_off(error: OSError) -> bool:
    """Return whether a decoder ran out of data; after any other error, its output cannot be relied on."""
    return str(error).startswith("image file is truncated")


def decoded_part(image: ImageFile.ImageFile, extents: Sequence[tuple[int, int, int, int] | None]) -> Part | None:
    """Return the part that a decoder decoded before it failed; None if that part is not known.

    Args:
        image: the picture whose `load` failed.
        extents: the extents in its `tile` before that: where each piece of the picture lies.
    """
    whole_rows = all(extent and extent[0] == 0 and extent[2] == image.width for extent in extents)
    if not whole_rows or image._im is None:
        return None
    image.tile = []  # otherwise Pillow would try once more
    present: NDArray[np.bool_] = np.any(np.asarray(image).reshape(image.height, -1), axis=1)
    rows = np.flatnonzero(present)
    if not rows.size or not present[rows[0] : rows[-1] + 1].all():  # there are gaps if rows are interlaced
        return None
    missing = Image.new("L", image.size, 255)
    missing.paste(0, (0, int(rows[0]), image.width, int(rows[-1]) + 1))
    return Part(image, missing)


def _gap(missing: Image.Image) -> str:
    """Say which part is missing."""
    width, height = missing.size
    box = ImageChops.invert(missing).getbbox() or (0, 0, 0, 0)  # the box of what is there
    gaps = {"upper": box[1] / height, "lower": 1 - box[3] / height}
    gaps |= {"left": box[0] / width, "right": 1 - box[2] / width}
    side = max(gaps, key=lambda name: gaps[name])
    return f"the {side} {max(1, round(100 * gaps[side]))} % of the picture is missing"
