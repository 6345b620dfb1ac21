"""Manage one rank's folder of a gallery's indexes: file names, locks, the server's seed, and removal.

**Names.** A file's name begins with the gallery's lineage, so one folder may serve several galleries:

    LINEAGE.N.lock      shard N's lock: a session that reads or changes the shard's indexes holds it; never removed
    LINEAGE.mask        the server's seed, 32 bytes
    LINEAGE.people      who is enrolled, as the client knows it
    LINEAGE-GROUP-...   an index; GROUP follows from the party's seed

**Locks.** A party's own rank searches shard 0. Every session that uses the folder holds the lock of shard 0 first. A
session that holds this lock alone may remove everything.

**Removal** goes by names, also in a folder that a symbolic link names. It refuses a file that is itself a link, since
the link's target would stay. The seed goes first. So files that a crash leaves belong to no group. They go when an
index is next brought up to date. The same holds for the files of a rank that could not be reached.
"""

import hmac
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from parties.gallery.errors import RefusalError, StoreError
from parties.machine import locks
from parties.machine.durable import PART, sync_folder, write_durably
from parties.machine.secret_file import SECRET_BYTES, read_secret
from parties.machine.walks import changed_at, entries_of

__all__ = ["IndexFolder", "group_of"]

_LOCK = ".lock"
_OLD = re.compile(r"[0-9a-f]{24}(-[0-9a-f]{16})?\.(head|opened|norms|rows|checks|part|lock)")
"""Names of an index's files in earlier versions. They name no gallery, and are not read any more."""

_PART_SECONDS = 3600.0


def group_of(seed: bytes) -> str:
    """Return 16 hexadecimal digits that name the indexes under a party's seed. They reveal nothing about it."""
    return hmac.digest(seed, b"hybridface index group 1", "sha256")[:8].hex()


class IndexFolder:
    """The folder of a gallery's indexes.

    Args:
        path: of the folder. It is made, for its owner alone, when it is first locked or used.
        lineage: of the gallery's store.
        seconds: longest time to wait for a lock, if less than LOCK_SECONDS.
    """

    def __init__(self, path: Path, lineage: bytes, seconds: float | None = None) -> None:
        self.path, self.lineage = path, lineage
        self._seconds = locks.LOCK_SECONDS if seconds is None else min(seconds, locks.LOCK_SECONDS)

    def make(self) -> None:
        """Make the folder if there is none."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def locked(self, shard: int = 0, shared: bool = False) -> Iterator[None]:
        """Hold a shard's lock, alone or, with `shared`, together with others who hold it shared.

        Raises:
            StoreError: others hold the lock for too long, or the folder or a file in it cannot be used.
        """
        with self._errors(), ExitStack() as stack:
            try:
                self.make()
                lock = self.file(f"{shard}{_LOCK}")
                stack.enter_context(locks.locked(lock, "the gallery's index", shared, self._seconds))
            except TimeoutError as error:
                raise RefusalError(f"{error}: another session uses it") from error
            except OSError as error:
                named = Path(str(error.filename or self.path)).name
                raise StoreError(f"{named}: cannot use the index's folder: {error.strerror}") from error
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the system's errors about files in the folder as a StoreError that names the file."""
        try:
            yield
        except OSError as error:
            path = Path(str(error.filename2 or error.filename))
            if path.parent != self.path:
                raise
            raise StoreError(f"{path.name}: cannot use a file of the index: {error.strerror}") from error

    @property
    def people(self) -> Path:
        """The path of the client's directory of who is enrolled."""
        return self.file("people")

    def file(self, name: str) -> Path:
        """Return the path of a file of this gallery."""
        return self.path / f"{self.lineage.hex()}.{name}"

    def stem(self, group: str, rest: str) -> str:
        """Return the beginning of the names of an index's files."""
        return f"{self.lineage.hex()}-{group}-{rest}"

    def seed(self) -> bytes:
        """Return the server's seed; draw one if there is no whole one. The caller holds shard 0 alone."""
        path = self.file("mask")
        try:
            return read_secret(path)
        except (OSError, ValueError):
            secret = secrets.token_bytes(SECRET_BYTES)
            write_durably(path, secret)
            return secret

    def erase(self) -> None:
        """Remove all of the gallery's files, except the locks: those of every seed, and of every number of shards.

        The caller holds shard 0 alone.

        Raises:
            StoreError: a file could not be removed.
        """
        self._remove(path for path in self._files() if path.suffix != _LOCK or _OLD.fullmatch(path.name))

    def keep_group(self, group: str) -> None:
        """Remove indexes under other seeds, and files that a crash has left. The caller holds a shard alone."""
        indexes, kept = f"{self.lineage.hex()}-", self.stem(group, "")
        self._remove(
            path
            for path in self._files()
            if (path.name.startswith(indexes) and not path.name.startswith(kept))
            or _OLD.fullmatch(path.name)
            or _is_left(path)
        )

    def _files(self) -> list[Path]:
        """Return the gallery's files and those of earlier versions, with the seed first."""
        own = re.compile(rf"{self.lineage.hex()}[.-].*")
        found = [path for path in entries_of(self.path) if own.fullmatch(path.name) or _OLD.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path != self.file("mask"), path.name))

    def _remove(self, paths: Iterable[Path]) -> None:
        chosen = list(paths)
        try:
            for path in chosen:
                if path.is_symlink():
                    raise StoreError(
                        f"{path.name}: expected an index's file, got a symbolic link: remove what it names"
                    )
            for number, path in enumerate(chosen):
                path.unlink(missing_ok=True)
                if number == 0:
                    sync_folder(self.path)  # the seed, if there is one, is gone before the rest
            if chosen:
                sync_folder(self.path)
        except OSError as error:
            named = Path(str(error.filename or self.path)).name
            raise StoreError(f"{named}: cannot remove the index: {error.strerror}") from error
        if any(path.exists() for path in chosen):
            raise RefusalError("expected the index to be gone, but a file of it is still there")


def _is_left(path: Path) -> bool:
    """Return whether a file is an unfinished one of a process that ended long ago."""
    return path.suffix == PART and time.time() - changed_at(path) > _PART_SECONDS
