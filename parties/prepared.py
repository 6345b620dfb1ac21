"""Prepared runs on disk: made ahead of time, each used once, by the two parties that made it with each other.

What a run uses up (correlations, and the linear layers' masks and shares) is one file on either side. The two files
have one random number; the client's are those of one *pairing*, a random number of its folder. A file belongs to what
it was made for: a digest of the terms, the plans and the kind of run, on the server of the weights too.

Nothing is used twice, whatever crashes when:

- A file is written under another name, reaches the disk, and is then renamed to "ready", first on the server, then on
  the client. What was written is taken out of the session that made it.
- To use one, a party renames it to "used", and sees the folder reach the disk, *before* it reads it; then it is
  deleted. "used" files are never read again, and go when the folder is next opened.
- The server takes only what the client asks for; if one side has lost its file, the other's goes unused.

So a crash loses prepared runs, and never brings one back. A copy of a folder does: never restore one from a backup, nor
resume a snapshot of a machine twice. Files are for their owner alone; who has both sides' can read what was computed.
"""

import hashlib
import json
import os
import secrets
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protocols.errors import ParameterError
from protocols.ring import RingArray

__all__ = ["MAX_KEPT", "PreparedStore", "binding_of"]

MAX_KEPT = 100
"""Runs that are kept for one pairing, at most: some 40 MB each, on each side."""

_DIGITS = 32
_PART, _READY, _USED = ".part", ".ready", ".used"
_PART_SECONDS = 3600.0
"""After so long nobody writes a file any more."""

Arrays = Mapping[str, Sequence[RingArray]]
"""What a run uses up, by name."""


def binding_of(*described: Any) -> str:
    """Return a digest of what a prepared run depends on, of JSON values."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class PreparedStore:
    """One party's folder of prepared runs.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def own_pairing(self) -> str:
        """Return the client's pairing: drawn once, kept in the folder."""
        path = self._folder / "pairing"
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{secrets.token_hex(4)}")
            _write(temporary, secrets.token_hex(_DIGITS // 2).encode())
            try:
                os.link(temporary, path)  # the first of several processes
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        return _checked(path.read_text())

    def ready(self, pairing: str, binding: str) -> list[str]:
        """Return the numbers of the runs that may be used, the oldest first."""
        folder = self._of(pairing)
        paths = sorted(folder.glob(f"*{_READY}"), key=lambda path: path.stat().st_mtime_ns)
        return [path.stem for path in paths if _binding(path) == binding]

    def clean(self, pairing: str) -> None:
        """Remove what crashes have left."""
        for path in self._of(pairing).glob("*"):
            old = path.suffix == _PART and path.stat().st_mtime < time.time() - _PART_SECONDS
            if old or path.suffix == _USED:
                path.unlink(missing_ok=True)

    def write(self, pairing: str, number: str, binding: str, arrays: Arrays) -> None:
        """Write a run that may not be used before `publish`; if there is no room, those of other kinds go.

        Raises:
            ParameterError: too many are kept.
        """
        folder = self._of(pairing)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = list(folder.glob(f"*{_READY}"))
        for path in kept if len(kept) >= MAX_KEPT else []:
            if _binding(path) != binding:
                path.unlink(missing_ok=True)
        if len(list(folder.glob(f"*{_READY}"))) >= MAX_KEPT:
            raise ParameterError(f"expected to keep at most {MAX_KEPT} prepared runs, got one more")
        flat = {f"{name}/{i}": array for name, values in arrays.items() for i, array in enumerate(values)}
        with open(_opened(self._path(pairing, number, _PART)), "wb") as file:
            np.savez(file, binding=np.frombuffer(binding.encode(), dtype=np.uint8), **flat)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())

    def publish(self, pairing: str, number: str) -> None:
        """Let a run be used from now on."""
        os.rename(self._path(pairing, number, _PART), self._path(pairing, number, _READY))
        _sync(self._of(pairing))

    def take(self, pairing: str, number: str, binding: str) -> dict[str, list[RingArray]] | None:
        """Return a run's arrays, for the only time; None if there is none that can be used."""
        ready, used = (self._path(pairing, number, suffix) for suffix in (_READY, _USED))
        try:
            os.rename(ready, used)
        except FileNotFoundError:
            return None
        _sync(self._of(pairing))
        try:
            return _read(used, binding)
        finally:
            used.unlink(missing_ok=True)
            _sync(self._of(pairing))

    def discard(self, pairing: str, number: str) -> None:
        """Forget a run, whether it was published or not."""
        for suffix in (_PART, _READY):
            self._path(pairing, number, suffix).unlink(missing_ok=True)

    def _of(self, pairing: str) -> Path:
        return self._folder / _checked(pairing)

    def _path(self, pairing: str, number: str, suffix: str) -> Path:
        return self._of(pairing) / f"{_checked(number)}{suffix}"


def _checked(number: str) -> str:
    """Return a number in hexadecimal; it becomes part of a path."""
    if len(number) != _DIGITS or not all(character in "0123456789abcdef" for character in number):
        raise ParameterError(f"expected {_DIGITS} hexadecimal digits, got {number[:40]!r}")
    return number


def _read(path: Path, binding: str) -> dict[str, list[RingArray]] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["binding"].tobytes().decode() != binding:
                return None
            arrays: dict[str, list[RingArray]] = {}
            for name in file.files:
                if name != "binding":
                    arrays.setdefault(name.rpartition("/")[0], []).append(file[name])
            return arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _binding(path: Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(file["binding"].tobytes().decode())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return ""


def _opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def _write(path: Path, content: bytes) -> None:
    with open(_opened(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
