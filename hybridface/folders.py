"""Default folders for the user's files (by the XDG base directory specification), and temporary folders."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridface.signals import cleaning_up
from protocols.errors import ParameterError

__all__ = ["cache_directory", "configuration_directory", "data_directory", "temporary_folder"]


def cache_directory() -> Path:
    """Return this user's folder for caches: $XDG_CACHE_HOME/hybridface, or ~/.cache/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    return _directory("XDG_CACHE_HOME", ".cache", "caches; pass --cache FOLDER or --cache none")


def data_directory() -> Path:
    """Return this user's folder for data: $XDG_DATA_HOME/hybridface, or ~/.local/share/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    return _directory("XDG_DATA_HOME", ".local/share", "galleries and runs; pass --gallery and --prepared")


def configuration_directory() -> Path:
    """Return this user's folder for keys and settings: $XDG_CONFIG_HOME/hybridface, or ~/.config/hybridface.

    Raises:
        ParameterError: the user has no home folder.
    """
    return _directory("XDG_CONFIG_HOME", ".config", "keys; pass --key")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that only this user can enter; remove it at the end, also when a signal ends the command.

    Raises:
        ParameterError: the folder cannot be made.
    """
    with cleaning_up():
        try:
            folder = tempfile.TemporaryDirectory(prefix="hybridface-")
        except OSError as error:
            raise ParameterError(f"cannot make a folder for temporary files: {error.strerror}; set TMPDIR") from error
        with folder as name:
            yield Path(name)


def _directory(variable: str, in_home: str, what: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / in_home) / "hybridface"
    except RuntimeError as error:
        raise ParameterError(f"found no home folder for {what}") from error
