"""Prepared runs on disk: made ahead of time, each used once, by the two parties that made it with each other.

What a run uses up (correlations, and the linear layers' masks and shares) is one file on either side; the two files
have one random number. A server's folder has a random *identity*; for each server a client's folder has a random
*pairing*, by which that server knows it, and no other. A file belongs to what it was made for: a digest of the format,
the terms, the plans, the correlations and the kind of run, on the server of the weights too.

Nothing is used twice, whatever crashes when:

- A file is written under another name, reaches the disk, and is then renamed to "ready", first on the server, then on
  the client. What was written is taken out of the session that made it.
- To use one, a party renames it to "used", and sees the folder reach the disk, *before* it reads it; then it is
  deleted. "used" files are never read again, and go when the folder is next opened.
- The server takes only what the client asks for; if one side has lost its file, the other's goes unused.

Only names of the forms that we give are ours: whatever else is in the folder is neither read nor removed.

Several processes may use a folder. Whoever writes or takes a run holds the folder's lock with others; whoever removes
what was left holds it alone.

So a crash loses prepared runs, and never brings one back. A copy of a folder does: never restore one from a backup, nor
resume a snapshot of a machine twice.

Files are for their owner alone, and secret. The client's hold the masks of its photos: who has one of them, and the
messages of the run that used it, has the photo. The server's hold the masks of the layers' sums in the same way.
Deleted files are not wiped from the disk.
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
from parties.machine.plain_files import open_plain, read_plain
from parties.machine.walks import changed_at, entries_of, size_of
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError

__all__ = ["MAX_BYTES", "MAX_DAYS", "MAX_KEPT", "PreparedStore", "binding_of", "is_number", "opened_store"]

MAX_KEPT = 100
"""Runs that are kept for one peer, at most: some 40 MB an image, on each side."""

MAX_BYTES = 16 << 30
"""Room for the runs of all peers together."""

MAX_DAYS = 30
"""So old a run is not used any more, and goes."""

_DIGITS = 32
_READY, _USED = ".ready", ".used"
_PAIRING = "pairing"
_OURS = re.compile(r"[0-9a-f]{32}\.(ready|used|part)|pairing\.[0-9a-f]{16}\.part")
_PART_SECONDS, _DAY_SECONDS = 3600.0, 86400.0  # after so long nobody writes a file any more; a day
_DIGEST_BYTES, _BINDING_BYTES = 32, 64
_MAX_RUN_BYTES = 2 << 30
_CLEAN_SECONDS = 5.0

Arrays = Mapping[str, Sequence[RingArray]]
"""What a run uses up, by name."""


def binding_of(*described: Any) -> str:
    """Return a digest of what a prepared run depends on, of JSON values."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class PreparedStore:
    """One party's folder of prepared runs, those of every peer in a folder of its own.

    A peer is named by 32 hexadecimal digits: for a client a server's identity, for a server a client's pairing.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def identity(self) -> str:
        """Return this folder's identity: drawn once, for a server."""
        return self._drawn_once(self._folder / "identity")

    def pairing(self, server: str) -> str:
        """Return the number by which a server knows this client: drawn once."""
        return self._drawn_once(self._of(server) / _PAIRING)

    def ready(self, peer: str, binding: str) -> list[str]:
        """Return the numbers of the runs that may be used, the oldest first."""
        return [path.stem for path in self._ready(self._of(peer)) if _binding(path) == binding]

    def clean(self) -> None:
        """Remove what crashes have left, what is too old, and the folders of peers of whom nothing is kept.

        Whatever cannot be removed now waits for the next call; so does all while others are at the folder all the time.
        """
        with suppress(OSError), self._held(shared=False, seconds=_CLEAN_SECONDS):
            for folder in self._peers():
                with suppress(OSError):
                    for path in filter(_is_left, entries_of(folder)):
                        _remove(path)
                    folder.rmdir()  # if it is empty

    def make_room(self, peer: str, binding: str) -> None:
        """See that there is room for one more run; the peer's oldest ones of other kinds go for it.

        Raises:
            ParameterError: there is none.
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
            OSError: it cannot be written; nothing is left of it.
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
        """Return a run's arrays, for the only time; None if there is none that can be used."""
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
        """Forget a run, whether it was published or not."""
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
        """Hold the folder's lock; without a folder there is nothing to hold, and nothing in it."""
        if not self._folder.is_dir():
            yield
            return
        with locked(self._folder, "the prepared runs", shared, seconds):
            yield

    @contextmanager
    def _made(self, folder: Path) -> Iterator[None]:
        """Make this folder and one in it, and let nobody remove the latter while it is empty."""
        self._make(self._folder)
        with self._held(shared=True):
            self._make(folder)
            yield

    def _make(self, folder: Path) -> None:
        """Make this folder, or one in it, for its owner alone; those above are made as usual."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)

    def _drawn_once(self, path: Path) -> str:
        if not path.exists():
            with self._made(path.parent), suppress(FileExistsError), created(path) as file:
                file.write(secrets.token_hex(_DIGITS // 2).encode())  # by the first of several processes
        try:
            return _checked(read_plain(path, _BINDING_BYTES).decode(errors="replace"))
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error

    def _of(self, peer: str) -> Path:
        return self._folder / _checked(peer)

    def _path(self, peer: str, number: str, suffix: str) -> Path:
        return self._of(peer) / f"{_checked(number)}{suffix}"


def is_number(value: object) -> bool:
    """Return whether this names a run, or a peer: 32 hexadecimal digits."""
    return isinstance(value, str) and len(value) == _DIGITS and set(value) <= set("0123456789abcdef")


def _checked(number: str) -> str:
    """Return a number, which becomes part of a path."""
    if not is_number(number):
        raise ParameterError(f"expected {_DIGITS} hexadecimal digits, got {number[:40]!r}")
    return number


def _read(path: Path, binding: str) -> dict[str, list[RingArray]] | None:
    """Return a file's arrays; None if it is damaged, or of something else."""
    try:
        content = read_plain(path, _MAX_RUN_BYTES)
    except OSError:
        return None
    digest, rest = content[:_DIGEST_BYTES], memoryview(content)[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest or bytes(rest[:_BINDING_BYTES]) != binding.encode():
        return None
    arrays: dict[str, list[RingArray]] = {}
    try:
        found = read_arrays(rest[_BINDING_BYTES:])
    except ParameterError:
        return None
    for name, array in found.items():
        arrays.setdefault(name.rpartition("/")[0], []).append(array)
    return arrays


def _binding(path: Path) -> str:
    """Return what a file says that it belongs to, unchecked; nothing if it is gone."""
    try:
        with open_plain(path) as file:
            return file.read(_DIGEST_BYTES + _BINDING_BYTES)[_DIGEST_BYTES:].decode(errors="replace")
    except OSError:
        return ""


def _is_left(path: Path) -> bool:
    """Return whether a file is ours, and will not be used any more; nobody is taking a run now."""
    if not _OURS.fullmatch(path.name):
        return False
    if path.suffix == _USED:
        return True
    age = time.time() - changed_at(path)
    return age > (MAX_DAYS * _DAY_SECONDS if path.suffix == _READY else _PART_SECONDS)


def _remove(path: Path) -> None:
    """Remove a file; if that cannot be, because it is a folder by now or may not be written, the next cleaning may."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def opened_store(folder: Path | None) -> PreparedStore | None:
    """Return the runs in a folder; None without one."""
    return None if folder is None else PreparedStore(folder)
