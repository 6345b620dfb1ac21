"""Errors of the product's own inputs, photographs and model files, and the exit statuses of the commands.

The protocols' errors are in `protocols.errors`.
"""

from protocols.errors import HybridFaceError

__all__ = ["EXIT_DIFFERENT", "EXIT_ERROR", "EXIT_SAME", "ImageError", "ModelError", "RunError"]

EXIT_SAME, EXIT_DIFFERENT, EXIT_ERROR = 0, 1, 2
"""The same person (or done), different people, an error."""


class ImageError(HybridFaceError):
    """A photograph cannot be used: it is unreadable, too large, or does not show exactly one face."""


class ModelError(HybridFaceError):
    """A model is unknown, its file cannot be read, or it has a layer that the layer graph cannot express."""


class RunError(HybridFaceError):
    """A process of a computation failed; the message says which, and why."""
