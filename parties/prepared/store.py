"""Keep prepared runs on disk. The two parties that made a run together use it once.

On each side, one file holds what a run uses up: correlations, and the linear layers' masks and shares. The two files of
a run have the same random number. A server's folder has a random *identity*. A client's folder has a random *pairing*
for each server, by which only that server knows the client. Each file holds a digest of what it was made for: the
format, the terms, the plans, the correlations and the kind of run, on the server also the weights.

Nothing is used twice, whatever crashes and whenever:

- A party writes a file under another name, waits until it is on the disk, and then renames it to "ready": first the
  server, then the client. The session that made the run takes it out of its memory.
- To use a file, a party renames it to "used" and waits until the folder is on the disk, *before* it reads the file.
  Then it deletes the file. "used" files are never read again, and are removed when the folder is next opened.
- The server takes only a run that the client asks for. If one side has lost its file, the other side's goes unused.

So a crash loses prepared runs, and never brings one back. A copy of a folder does bring runs back: never restore one
from a backup, and never resume a snapshot of a machine twice.

Several processes may use a folder. A process that writes or takes a run shares the folder's lock with others. A process
that removes leftovers holds the lock alone. Only files whose names have the forms that we give are ours. All other
files in the folder are neither read nor removed.

The files are secret, and for their owner alone. A client's files hold the masks of its photos. Somebody who has such a
file, and the messages of the run that used it, has the photo. A server's files hold the masks of the layers' sums in
the same way. Deleted files are not wiped from the disk.
"""

import hashlib
import io
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from parties.machine.arrays import read_arrays
from parties.machine.durable import PART, created, new_file, sync_folder
from parties.machine.locks import locked
from parties.machine.plain_files import open_plain, read_digested, read_plain
from parties.machine.walks import changed_at, entries_of, size_of
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError

__all__ = [
    "MAX_BYTES",
    "MAX_DAYS",
    "MAX_KEPT",
    "PreparedStore",
    "binding_of",
    "is_number",
    "kept_runs",
    "opened_store",
]

MAX_KEPT = 100
"""Runs that are kept for one peer, at most. A run takes some 40 MB for each image, on each side."""

MAX_BYTES = 16 << 30
"""Bytes for the runs of all peers together."""

MAX_DAYS = 30
"""Age in days from which on a run is removed, the next time that its folder is cleaned."""

_DIGITS = 32
_READY, _USED = ".ready", ".used"
_PAIRING = "pairing"
_OURS = re.compile(r"[0-9a-f]{32}\.(ready|used|part)|pairing\.[0-9a-f]{16}\.part")
_PART_SECONDS, _DAY_SECONDS = 3600.0, 86400.0  # age at which nobody is still writing a file; one day
_DIGEST_BYTES, _BINDING_BYTES = 32, 64
_MAX_RUN_BYTES = 2 << 30
_CLEAN_SECONDS = 5.0

Arrays = Mapping[str, Sequence[RingArray]]
"""The arrays that a run uses up, by name."""


def binding_of(*described: Any) -> str:
    """Return a digest of JSON values that describe what a prepared run depends on."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class PreparedStore:
    """One party's folder of prepared runs. The runs for each peer are in a subfolder of their own.

    A peer's name is 32 hexadecimal digits. A client uses the server's identity, a server uses the client's pairing.

    Args:
        folder: the folder. It is made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def identity(self) -> str:
        """Return the identity of a server's folder, which is drawn once."""
        return self._drawn_once(self._folder / "identity")

    def pairing(self, server: str) -> str:
        """Return the number by which a server knows this client, which is drawn once."""
        return self._drawn_once(self._of(server) / _PAIRING)

    def ready(self, peer: str, binding: str) -> list[str]:
        """Return the numbers of the runs that may be used, the oldest first."""
        return [path.stem for path in self._ready(self._of(peer)) if _binding(path) == binding]

    def clean(self) -> None:
        """Remove what crashes have left, runs that are too old, and the subfolders of peers that have no runs.

        A file that cannot be removed now stays until the next call. So do all files if other processes keep the folder
        locked.
        """
        with suppress(OSError), self._held(shared=False, seconds=_CLEAN_SECONDS):
            for folder in self._peers():
                with suppress(OSError):
                    for path in filter(_is_left, entries_of(folder)):
                        _remove(path)
                    folder.rmdir()  # if it is empty

    def make_room(self, peer: str, binding: str) -> None:
        """Make room for one more run. If necessary, remove the peer's oldest runs of other kinds.

        Raises:
            ParameterError: there is no room.
        """
        kept = self._ready(self._of(peer))
        others = [path for path in kept if _binding(path) != binding]
        surplus = len(kept) - (MAX_KEPT - 1)
        if surplus > len(others):
            raise ParameterError(f"expected to keep at most {MAX_KEPT} prepared runs, got one more")
        for path in others[: max(surplus, 0)]:
            path.unlink(missing_ok=True)
        if sum(size_of(path) for folder in self._peers() for path in entries_of(folder)) >= MAX_BYTES:
            raise ParameterError(f"expected at most {MAX_BYTES >> 30} GiB of prepared runs, got one more run")

    def write(self, peer: str, number: str, binding: str, arrays: Arrays) -> None:
        """Write a run that may not be used before `publish`.

        Raises:
            OSError: the run cannot be written. Nothing is left of it.
        """
        flat = {f"{name}/{i}": array for name, values in arrays.items() for i, array in enumerate(values)}
        content = io.BytesIO(binding.encode())
        content.seek(_BINDING_BYTES)
        np.savez(content, **flat)  # type: ignore[arg-type]
        digest = hashlib.sha256(content.getbuffer()).digest()
        part = self._path(peer, number, PART)
        with self._made(part.parent), new_file(part) as file:
            file.writelines((digest, content.getbuffer()))

    def publish(self, peer: str, number: str) -> None:
        """Let a run be used from now on."""
        with self._held(shared=True):
            os.rename(self._path(peer, number, PART), self._path(peer, number, _READY))
            sync_folder(self._of(peer))

    def take(self, peer: str, number: str, binding: str) -> dict[str, list[RingArray]] | None:
        """Return a run's arrays, only this once; None if there is no such run that can be used."""
        ready, used = (self._path(peer, number, suffix) for suffix in (_READY, _USED))
        with self._held(shared=True):
            try:
                os.rename(ready, used)
            except FileNotFoundError:
                return None
            sync_folder(self._of(peer))
            try:
                return _read(used, binding)
            finally:
                _remove(used)
                sync_folder(self._of(peer))

    def discard(self, peer: str, number: str) -> None:
        """Remove a run, whether it was published or not."""
        for suffix in (PART, _READY):
            self._path(peer, number, suffix).unlink(missing_ok=True)

    def _ready(self, folder: Path) -> list[Path]:
        """Return the runs of a peer, the oldest first; another process may remove some meanwhile."""
        own = (path for path in entries_of(folder) if path.suffix == _READY and is_number(path.stem))
        return sorted((path for path in own if path.is_file()), key=changed_at)

    def _peers(self) -> Iterator[Path]:
        return (path for path in entries_of(self._folder) if is_number(path.name) and path.is_dir())

    @contextmanager
    def _held(self, shared: bool, seconds: float | None = None) -> Iterator[None]:
        """Hold the folder's lock during a block. If there is no folder, there is nothing to lock."""
        if not self._folder.is_dir():
            yield
            return
        with locked(self._folder, "the prepared runs", shared, seconds):
            yield

    @contextmanager
    def _made(self, folder: Path) -> Iterator[None]:
        """Make this folder and a subfolder, and let nobody remove the subfolder while it is empty."""
        self._make(self._folder)
        with self._held(shared=True):
            self._make(folder)
            yield

    def _make(self, folder: Path) -> None:
        """Make this folder or a subfolder for its owner alone. Missing parents get the usual mode."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)

    def _drawn_once(self, path: Path) -> str:
        if not path.exists():
            with self._made(path.parent), suppress(FileExistsError), created(path) as file:
                file.write(secrets.token_hex(_DIGITS // 2).encode())  # the first of several processes writes it
        try:
            return _checked(read_plain(path, _BINDING_BYTES).decode(errors="replace"))
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error

    def _of(self, peer: str) -> Path:
        return self._folder / _checked(peer)

    def _path(self, peer: str, number: str, suffix: str) -> Path:
        return self._of(peer) / f"{_checked(number)}{suffix}"


def kept_runs(folder: Path) -> int:
    """Return how many prepared runs a store's folder has, for whatever peer; 0 if it cannot be read."""
    try:
        return sum(1 for _ in folder.glob(f"*/*{_READY}"))
    except OSError:
        return 0


def is_number(value: object) -> bool:
    """Return whether a value has the form of a run's or a peer's name: 32 hexadecimal digits."""
    return isinstance(value, str) and len(value) == _DIGITS and set(value) <= set("0123456789abcdef")


def _checked(number: str) -> str:
    """Return a number after checking it, since it becomes part of a path."""
    if not is_number(number):
        raise ParameterError(f"expected {_DIGITS} hexadecimal digits, got {number[:40]!r}")
    return number


def _read(path: Path, binding: str) -> dict[str, list[RingArray]] | None:
    """Return a file's arrays; None if the file is damaged, or was made for something else."""
    try:
        content = read_digested(path, _MAX_RUN_BYTES)
    except OSError:
        return None
    if content is None or content[:_BINDING_BYTES] != binding.encode():
        return None
    arrays: dict[str, list[RingArray]] = {}
    try:
        found = read_arrays(memoryview(content)[_BINDING_BYTES:])
    except ParameterError:
        return None
    for name, array in found.items():
        arrays.setdefault(name.rpartition("/")[0], []).append(array)
    return arrays


def _binding(path: Path) -> str:
    """Return the digest of what a file was made for, unchecked; an empty text if the file is gone."""
    try:
        with open_plain(path) as file:
            return file.read(_DIGEST_BYTES + _BINDING_BYTES)[_DIGEST_BYTES:].decode(errors="replace")
    except OSError:
        return ""


def _is_left(path: Path) -> bool:
    """Return whether a file is ours and will not be used any more. The caller holds the lock alone."""
    if not _OURS.fullmatch(path.name):
        return False
    if path.suffix == _USED:
        return True
    age = time.time() - changed_at(path)
    return age > (MAX_DAYS * _DAY_SECONDS if path.suffix == _READY else _PART_SECONDS)


def _remove(path: Path) -> None:
    """Remove a file. If it is a folder by now, or may not be removed, leave it to the next cleaning."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def opened_store(folder: Path | None) -> PreparedStore | None:
    """Return the store in a folder; None if there is no folder."""
    return None if folder is None else PreparedStore(folder)
