"""Default folders for the user's files (by the XDG base directory specification), and temporary folders."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hybridface.signals import cleaning_up
from parties.machine.locks import FileLock, locked
from parties.machine.walks import entries_of
from protocols.errors import ParameterError

__all__ = ["cache_directory", "configuration_directory", "data_directory", "temporary_folder"]

_PREFIX = "hybridface-"
_MARK = ".hybridface-temporary"
"""A file that only temporary folders of ours have: names alone could be anybody's."""
_LEFT_SECONDS = 3600.0


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

    A command that was killed leaves its folder, with tasks or photos. After an hour another command removes it. Whoever
    uses a folder holds its lock, which ends with the process.

    Raises:
        ParameterError: the folder cannot be made.
    """
    with cleaning_up():
        try:
            folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
        except OSError as error:
            raise ParameterError(f"cannot make a folder for temporary files: {error.strerror}; set TMPDIR") from error
        with folder as name, ExitStack() as stack:
            with suppress(OSError):  # where there are no locks, nothing that was left is removed
                (Path(name) / _MARK).touch()
                stack.enter_context(locked(Path(name), "a temporary folder"))
                _remove_left(Path(name).parent)
            yield Path(name)


def _remove_left(parent: Path) -> None:
    """Remove this user's temporary folders that commands have left, as far as that can be."""
    for path in entries_of(parent):
        if path.name.startswith(_PREFIX):
            with suppress(OSError):
                _remove_if_left(path)


def _remove_if_left(folder: Path) -> None:
    status = folder.lstat()
    is_old = time.time() - status.st_mtime > _LEFT_SECONDS
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and (folder / _MARK).is_file()
    if is_old and is_ours:
        lock = FileLock(folder, "a temporary folder")
        try:
            if lock.try_take():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.close()


def _directory(variable: str, in_home: str, what: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / in_home) / "hybridface"
    except RuntimeError as error:
        raise ParameterError(f"found no home folder for {what}") from error
