"""Errors about the product's own inputs (photos and model files), and the exit statuses of the commands.

The protocols' errors are in `protocols.errors`.
"""

import os
import traceback
from pathlib import Path

from protocols.errors import HybridFaceError

__all__ = [
    "EXIT_DIFFERENT",
    "EXIT_ERROR",
    "EXIT_SAME",
    "ConfigurationError",
    "ImageError",
    "ModelError",
    "RunError",
    "escaped",
    "told",
]

_SHOWN = 200

EXIT_SAME, EXIT_DIFFERENT, EXIT_ERROR = 0, 1, 2
"""The same person (or done), different people, an error."""


class ImageError(HybridFaceError):
    """A photograph cannot be used: it is unreadable, too large, or does not show exactly one face."""


class ModelError(HybridFaceError):
    """A model is unknown, its file cannot be read, or it has a layer that the layer graph cannot express."""


class ConfigurationError(HybridFaceError):
    """A server's configuration or a client's list of servers cannot be used; the message names file and key."""


class RunError(HybridFaceError):
    """A process of a computation failed; the message says which one, and why."""


def escaped(text: str) -> str:
    """Return a text that is safe to write to a terminal: on one line, with escapes for characters that do not print.

    File names and messages from a peer may hold control characters that steer a terminal.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def told(error: Exception) -> str:
    """Return the line that reports an error to the user; for a defect, it also says where in the code it occurred."""
    text = escaped(" ".join(str(error).splitlines()))
    if isinstance(error, HybridFaceError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return _told_by_system(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"internal error{place}: {type(error).__name__}: {text}"


def _told_by_system(error: OSError) -> str:
    """Return the line for an error that the system reports about a file: a full disk, no permission, a long name."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    what = " and ".join(f"{name[:_SHOWN]}..." if len(name) > _SHOWN else name for name in names)
    return escaped(" ".join(f"cannot use {what or 'a file'}: {error.strerror}".splitlines()))
