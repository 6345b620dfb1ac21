"""Where the user's files lie, if no option says so (the XDG base directory specification); temporary folders."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridface.signals import cleaning_up
from protocols.errors import ParameterError

__all__ = ["cache_directory", "configuration_directory", "data_directory", "temporary_folder"]


def cache_directory() -> Path:
    """Return where this user's caches lie: $XDG_CACHE_HOME/hybridface, or ~/.cache/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    return _directory("XDG_CACHE_HOME", ".cache", "caches; name one with --cache, or none")


def data_directory() -> Path:
    """Return where this user's data lie: $XDG_DATA_HOME/hybridface, or ~/.local/share/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    return _directory("XDG_DATA_HOME", ".local/share", "galleries and prepared runs; name a place with an option")


def configuration_directory() -> Path:
    """Return where this user's keys and settings lie: $XDG_CONFIG_HOME/hybridface, or ~/.config/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    return _directory("XDG_CONFIG_HOME", ".config", "keys; name one with --key")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that only this user can enter, and that is removed at the end, also when a signal ends the command.

    Raises:
        ParameterError: it cannot be made.
    """
    with cleaning_up():
        try:
            folder = tempfile.TemporaryDirectory(prefix="hybridface-")
        except OSError as error:
            raise ParameterError(f"expected a folder for temporary files, set TMPDIR: {error.strerror}") from error
        with folder as name:
            yield Path(name)


def _directory(variable: str, in_home: str, what: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / in_home) / "hybridface"
    except RuntimeError as error:
        raise ParameterError(f"expected a home folder for {what}") from error
