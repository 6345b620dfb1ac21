"""The public step from an aligned crop to a network's input, as data that the server can send its clients.

- `ChannelScaling`: dlib-resnet29, tiny-test.
- `PatchCutting` (`patches`): patchnet.

A client only ever runs one of these two, with numbers within the bounds that the readers check.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models.patches import PatchCutting
from protocols.document import Document, integer, number, row, word

__all__ = ["ChannelScaling", "Preprocessing", "preprocessing_document", "preprocessing_from_document"]

_MAX_SIZE = 512
_MEAN = number(0, 255)
_SCALE = number(1, 2.0**16)


@dataclass(frozen=True)
class ChannelScaling:
    """Subtract a mean from each colour, and divide by one scale.

    Args:
        size: height and width of the aligned crop, in pixels.
        means: of red, green and blue.
        scale: the divisor.
    """

    size: int
    means: tuple[float, float, float]
    scale: float

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what it returns."""
        return (3, self.size, self.size)

    def __call__(self, chip: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the network's input (3, size, size) float64 for an RGB aligned crop (size, size, 3) uint8.

        Raises:
            ModelError: the crop has another shape or dtype.
        """
        expected = (self.size, self.size, 3)
        if chip.shape != expected or chip.dtype != np.uint8:
            raise ModelError(f"expected an aligned crop {expected} of uint8, got {chip.shape} of {chip.dtype}")
        return np.ascontiguousarray(((chip - np.array(self.means)) / self.scale).transpose(2, 0, 1))

    def document(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {"size": self.size, "means": list(self.means), "scale": self.scale}

    @classmethod
    def from_document(cls, document: Document) -> "ChannelScaling":
        """Return what a peer's object describes.

        Raises:
            ProtocolError: a field is missing, unknown, of another type or out of bounds.
        """
        with document:
            size = document.take("size", integer(1, _MAX_SIZE))
            red, green, blue = document.take("means", row(_MEAN, _MEAN, _MEAN))
            scale = document.take("scale", _SCALE)
        return cls(size, (float(red), float(green), float(blue)), float(scale))


Preprocessing = ChannelScaling | PatchCutting
"""Maps an aligned crop (size, size, 3) uint8 to the input of a network, float64 of shape `output_shape`."""

_KINDS: Mapping[str, type[ChannelScaling] | type[PatchCutting]] = {
    "channel scaling": ChannelScaling,
    "patches": PatchCutting,
}


def preprocessing_document(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the kind and the fields as a JSON object."""
    (kind,) = (name for name, one in _KINDS.items() if type(preprocessing) is one)
    return {"kind": kind, **preprocessing.document()}


def preprocessing_from_document(document: Document) -> Preprocessing:
    """Return what a peer's object describes. It takes all fields.

    Raises:
        ProtocolError: the kind is unknown, or a field is missing, unknown, of another type or out of bounds.
    """
    return _KINDS[document.take("kind", word(*_KINDS))].from_document(document)
