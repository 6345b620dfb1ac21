"""Where the user's files lie, if no option says so (the XDG base directory specification)."""

import os
from pathlib import Path

from protocols.errors import ParameterError

__all__ = ["cache_directory"]


def cache_directory() -> Path:
    """Return where this user's caches lie: $XDG_CACHE_HOME/hybridface, or ~/.cache/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybridface"
    except RuntimeError as error:
        raise ParameterError("expected a home folder for caches; name one with --cache, or none") from error
