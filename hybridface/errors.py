"""Errors of the product's own inputs: photographs and model files. The protocols' errors are in `protocols.errors`."""

from protocols.errors import HybridFaceError

__all__ = ["ImageError", "ModelError"]


class ImageError(HybridFaceError):
    """A photograph cannot be used: it is unreadable, too large, or does not show exactly one face."""


class ModelError(HybridFaceError):
    """A model is unknown, its file cannot be read, or it has a layer that the layer graph cannot express."""
