"""Accuracy on Labeled Faces in the Wild, by its own protocol: `hybridface eval lfw`."""

from hybridface.measure.accuracy.measured import measured_accuracy

__all__ = ["measured_accuracy"]
