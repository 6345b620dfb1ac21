"""Cut an aligned crop into the patches that a patch network reads.

The client cuts, in the clear. How it cuts is public. The network's input is patch after patch. A patch's values are
means over squares of pixels, in the order (colour, row, column).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models.contrast import normalised_contrast
from protocols.document import Document, boolean, integer, list_of, row
from protocols.errors import ProtocolError

__all__ = ["CHIP_SIZE", "MEAN", "SCALE", "PatchCutting", "cut"]

CHIP_SIZE = 64
"""Height and width of the aligned crop, in pixels."""

MEAN, SCALE = 127.5, 127.5
"""What is subtracted from a pixel, and by what the difference is divided."""

_MAX_INPUTS = 1024
_MAX_PATCHES = 1024
_PATCH = row(*(integer(0, CHIP_SIZE),) * 4)


@dataclass(frozen=True)
class PatchCutting:
    """How to make a patch network's input from an aligned crop.

    Args:
        patches: (P, 4) as tuples: top, left and side in pixels of the crop, and the side of the squares that are
            averaged.
        contrast: whether the crop goes through `normalised_contrast` before it is cut.

    Raises:
        ModelError: a patch is not inside the crop, the patches have different numbers of values, or a patch has more
            than 1,024 values.
    """

    patches: tuple[tuple[int, int, int, int], ...]
    contrast: bool = False

    def __post_init__(self) -> None:
        for top, left, side, pool in self.patches:
            inside = 0 <= top <= CHIP_SIZE - side and 0 <= left <= CHIP_SIZE - side and side > 0
            if not inside or pool < 1 or any(n % pool for n in (top, left, side)):
                raise ModelError(f"expected patches within {CHIP_SIZE}x{CHIP_SIZE}, got {(top, left, side, pool)}")
        sizes = {3 * (side // pool) ** 2 for _, _, side, pool in self.patches}
        if len(sizes) != 1 or max(sizes) > _MAX_INPUTS:
            raise ModelError(f"expected patches of one size, at most {_MAX_INPUTS} values, got sizes {sorted(sizes)}")

    @property
    def size(self) -> int:
        """Height and width of the aligned crop, in pixels."""
        return CHIP_SIZE

    @property
    def inputs(self) -> int:
        """Values per patch: colours times height times width."""
        _, _, side, pool = self.patches[0]
        return 3 * (side // pool) ** 2

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what it returns."""
        return (len(self.patches) * self.inputs, 1, 1)

    def __call__(self, chip: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the network's input (P * inputs, 1, 1) float64, patch by patch, for an RGB crop (64, 64, 3) uint8.

        Raises:
            ModelError: the crop has another shape or dtype.
        """
        if chip.shape != (CHIP_SIZE, CHIP_SIZE, 3) or chip.dtype != np.uint8:
            raise ModelError(f"expected an aligned crop (64, 64, 3) of uint8, got {chip.shape} of {chip.dtype}")
        values = cut(torch.from_numpy(chip[None].copy()), self.patches, self.contrast)
        return np.asarray(values.double().numpy()).reshape(-1, 1, 1)

    def document(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {"patches": [list(patch) for patch in self.patches], "contrast": self.contrast}

    @classmethod
    def from_document(cls, document: Document) -> "PatchCutting":
        """Return what a peer's object describes.

        Raises:
            ProtocolError: a field is missing, unknown, of another type or out of bounds.
        """
        with document:
            patches = document.take("patches", list_of(_PATCH, _MAX_PATCHES, 1))
            contrast = document.take("contrast", boolean)
        try:
            return cls(tuple(patches), contrast)
        except ModelError as error:
            raise ProtocolError(f"{document.what}: {error}") from error


def cut(chips: Any, patches: tuple[tuple[int, int, int, int], ...], contrast: bool = False) -> Any:
    """Cut aligned crops into patches, (N, P, inputs) float32 with values in about [-1, 1].

    A patch's values are means over squares of `pool` x `pool` pixels, in the order (colour, row, column), row-major.

    Args:
        chips: a tensor (N, 64, 64, 3) uint8.
        patches: see `PatchCutting`.
        contrast: whether to apply `normalised_contrast` first; then values are in about [-2, 2].
    """
    images = (chips.permute(0, 3, 1, 2).float() - MEAN) / SCALE
    if contrast:
        images = normalised_contrast(images)
    sizes = sorted({pool for *_, pool in patches})
    pooled = {pool: torch.nn.functional.avg_pool2d(images, pool) for pool in sizes}
    cuts = [
        pooled[pool][:, :, top // pool : (top + side) // pool, left // pool : (left + side) // pool].flatten(1)
        for top, left, side, pool in patches
    ]
    return torch.stack(cuts, 1)
