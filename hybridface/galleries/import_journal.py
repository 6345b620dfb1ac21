"""Record of the photos that imports have enrolled: the same command again enrols what is missing, and nothing twice.

Each gallery has a record. It lies in the folder of a private gallery's key, or in the folder of a list. It never leaves
the party that chose the photos; the server of a private gallery gets nothing of it. Each line has the number of a
photo's row in the gallery, and a tag: HMAC-SHA-256 of the file's SHA-256, under a secret in a file of its own beside
the record. So the record alone does not tell whether a given photo is enrolled. Together with the secret it does, for
exactly the same file.

Each line also has a check: an HMAC of the row and the tag under the same secret. A damaged line counts as missing. If
no line fits the secret, the secret is damaged, and the record is refused. Lines of older versions have no check.

A row's number is never used again, so photos that were removed count as missing. A photo is noted after the gallery
holds it. If the command is killed in between, the photo may be enrolled twice, which changes no answer. An import locks
the record before it looks at the gallery, so that two imports do not enrol the same photos.
"""

import hashlib
import hmac
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from hybridface.errors import RunError
from parties.machine.durable import append_durably, make_folder, write_durably
from parties.machine.locks import locked
from parties.machine.plain_files import open_plain, plain_lines, read_plain
from parties.machine.secret_file import read_secret, secret_of

__all__ = ["ImportJournal", "RecordBusyError", "forget_older_record", "held", "moving", "photo_digest", "take_along"]

_MOST_BYTES, _CHUNK = 1 << 28, 1 << 20
_MOST_RECORD_BYTES = 1 << 29
"""The most bytes of a record: eight million photos need fewer."""

_MOST_LINES = 1 << 23
_TAG_DIGITS, _CHECK_DIGITS = 32, 16
_RECORD, _SECRET, _LOCK = ".imported", ".imported-key", ".imported-lock"


class ImportJournal:
    """The photos that imports have enrolled in a gallery.

    Args:
        folder: folder of the record; made if it does not exist.
        scope: the gallery's scope, 16 bytes.
        enrolled: who is in the gallery now, by row.
        read_only: write nothing; then no photo can be added.

    Raises:
        RunError: the record cannot be read or written, or its secret is missing or damaged.
    """

    def __init__(self, folder: Path, scope: bytes, enrolled: Mapping[int, str], read_only: bool = False) -> None:
        self._path = _path(folder, scope)
        self._enrolled = dict(enrolled)
        self._rows: dict[str, list[int]] = defaultdict(list)
        try:
            lines = [line for line in _read(self._path) if line[0] in enrolled]
            self._secret = self._opened_secret(bool(lines), read_only)
            noted = dict(_sound(lines, self._secret))
            if not read_only:
                write_durably(self._path, b"".join(_line(row, tag, self._secret) for row, tag in noted.items()))
        except OSError as error:
            raise self._refusal(error.strerror) from error
        except ValueError as error:
            raise self._refusal(f"its secret is damaged, {error}; restore both files, or remove both") from error
        for row, tag in noted.items():
            self._rows[tag].append(row)

    def _opened_secret(self, is_needed: bool, read_only: bool) -> bytes:
        path = self._path.with_suffix(_SECRET)
        if is_needed:
            try:
                return read_secret(path)
            except FileNotFoundError as error:
                raise RunError(
                    f"cannot tell which photos are enrolled: {self._path.name} is useless without {path.name};"
                    " restore that, or remove both"
                ) from error
        if read_only:
            return b""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return secret_of(path)

    def owners(self, digest: bytes) -> set[str]:
        """Return the people for whom a photo with this digest is enrolled."""
        return {self._enrolled[row] for row in self._rows.get(self._tag(digest), ())}

    def add(self, identity: str, row: int, digest: bytes) -> None:
        """Note, durably, that a photo is enrolled.

        Raises:
            RunError: the record cannot be written.
        """
        tag = self._tag(digest)
        try:
            append_durably(self._path, _line(row, tag, self._secret))
        except OSError as error:
            raise self._refusal(error.strerror) from error
        self._enrolled[row] = identity
        self._rows[tag].append(row)

    def _tag(self, digest: bytes) -> str:
        return hmac.digest(self._secret, digest, "sha256").hex()[:_TAG_DIGITS]

    def _refusal(self, reason: str | None) -> RunError:
        return RunError(f"{self._path.name}: cannot note what is enrolled: {reason}")


class RecordBusyError(RunError):
    """Raised if an import or a renaming uses the record of imports for too long. Nothing was changed."""


@contextmanager
def held(folder: Path, scope: bytes, seconds: float | None = None) -> Iterator[None]:
    """Lock a gallery's record, whether it exists yet or not.

    Args:
        seconds: seconds to wait for the lock; LOCK_SECONDS if left out.

    Raises:
        RecordBusyError: another import or renaming held the lock for too long. RunError: the record cannot be locked.
    """
    path = _path(folder, scope).with_suffix(_LOCK)
    with ExitStack() as stack:
        try:
            make_folder(folder)
            stack.enter_context(locked(path, "the record of imports", seconds=seconds))
        except TimeoutError as error:
            raise RecordBusyError(
                f"{error}: another import or renaming in this gallery uses it; try again later"
            ) from error
        except OSError as error:
            raise RunError(f"{path.name}: cannot lock the record of imports: {error.strerror}") from error
        yield


def take_along(scope: bytes, old: Path, new: Path) -> None:
    """Copy a gallery's record to the folder of its new key; the caller holds the lock of the record.

    A record that is there already is of an earlier time, and goes. The secret comes first: a record without it is
    useless, but a secret without a record is not.

    Raises:
        OSError: the record cannot be copied.
    """
    if old.resolve() == new.resolve() or not _is_there(_path(old, scope)):
        return
    _path(new, scope).unlink(missing_ok=True)
    for suffix in (_SECRET, _RECORD):
        path = _path(old, scope).with_suffix(suffix)
        write_durably(new / path.name, read_plain(path, _MOST_RECORD_BYTES))


@contextmanager
def moving(folder: Path, scope: bytes, seconds: float | None = None) -> Iterator[Callable[[Mapping[int, int]], None]]:
    """Lock a gallery's record, as `held` does, while somebody gets another name, or the gallery another key.

    Gives a function to call with the new row of each old row; it raises RunError if the record cannot be written. If a
    folder is read-only and has no record, no import can make one. So there is nothing to lock.
    """
    path = _path(folder, scope)
    with held(folder, scope, seconds) if _is_there(path) or os.access(folder, os.W_OK) else nullcontext():
        yield lambda rows: _renumber(path, rows)


def _renumber(path: Path, rows: Mapping[int, int]) -> None:
    if _is_there(path):
        try:
            lines = list(_read(path))
            secret = read_secret(path.with_suffix(_SECRET)) if lines else b""
            write_durably(path, b"".join(_line(rows.get(row, row), tag, secret) for row, tag in _sound(lines, secret)))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"its secret is damaged, {error}"
            raise RunError(
                f"{path.name}: cannot note who was renamed, so the next import may enrol these photos again: {reason}"
            ) from error


def forget_older_record(beside: Path, gallery: Path) -> None:
    """Remove the record of an older version's import: its hashes can be compared without a secret."""
    name = hashlib.sha256(str(gallery.resolve()).encode()).hexdigest()[:16]
    beside.with_name(f"{beside.name}.{name}.import").unlink(missing_ok=True)


def _path(folder: Path, scope: bytes) -> Path:
    return folder / f"gallery-{scope.hex()[:16]}{_RECORD}"


def photo_digest(photo: Path) -> bytes:
    """Return the SHA-256 of a photo's file.

    Raises:
        OSError: the file cannot be read. ValueError: it is far too large for a photo.
    """
    digest, size = hashlib.sha256(), 0
    with open_plain(photo) as file:
        while size <= _MOST_BYTES and (chunk := file.read(_CHUNK)):
            digest.update(chunk)
            size += len(chunk)
    if size > _MOST_BYTES:
        raise ValueError(f"expected a photo of at most {_MOST_BYTES >> 20} MB, got a larger file")
    return digest.digest()


def _is_there(path: Path) -> bool:
    """Return whether something has this name, also a link to nothing: that is a record that cannot be read now."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _read(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield the row, the tag and the check of a record's lines; skip lines that are cut off or malformed."""
    if not _is_there(path):
        return
    for line in plain_lines(path, _MOST_RECORD_BYTES, _MOST_LINES, errors="replace"):
        if not line.startswith("["):
            continue
        try:
            match json.loads(line):
                case [row, str(tag), *rest] if type(row) is int and row > 0 and len(tag) == _TAG_DIGITS:
                    match rest:
                        case []:
                            yield row, tag, None
                        case [str(check)]:
                            yield row, tag, check
        except (ValueError, RecursionError):
            continue


def _sound(lines: Sequence[tuple[int, str, str | None]], secret: bytes) -> Iterator[tuple[int, str]]:
    """Yield the row and the tag of each line whose check fits.

    Raises:
        ValueError: no line fits, so the secret is another one.
    """
    sound = [(row, tag) for row, tag, check in lines if check in (None, _check(row, tag, secret))]
    if lines and not sound:
        raise ValueError("expected the one under which the record was written")
    return iter(sound)


def _check(row: int, tag: str, secret: bytes) -> str:
    return hmac.digest(secret, f"{row} {tag}".encode(), "sha256").hex()[:_CHECK_DIGITS]


def _line(row: int, tag: str, secret: bytes) -> bytes:
    return b"\n" + json.dumps([row, tag, _check(row, tag, secret)]).encode()
