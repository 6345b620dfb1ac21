"""Measure accuracy on Labeled Faces in the Wild (LFW), by its own protocol: `hybridface eval lfw`."""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from hybridface.measure.accuracy.measured import measured_accuracy

__all__ = ["measured_accuracy"]

__getattr__ = hand_on(
    __name__,
    {
        "hybridface.measure.accuracy.measured": ["measured_accuracy"],
    },
)
