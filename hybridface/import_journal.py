"""What an interrupted import has done already, so that the same command goes on from there.

A file beside the key of a private gallery, or beside a list: it names people and has hashes of their photos, so it is
for the eyes of whoever chose the photos. It is there from the first photo that is done until all are. A photo counts as
done after the gallery holds it; the one that was in work at the interruption may be enrolled twice, which changes no
answer.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ImportJournal"]


class ImportJournal:
    """The photos of an import that are done.

    Args:
        beside: the file beside which it lies.
        enrolled: who is in the gallery now: what it says of others is forgotten, for they were removed since.
    """

    def __init__(self, beside: Path, enrolled: Iterable[str]) -> None:
        self._path = beside.with_name(f"{beside.name}.import")
        known = set(enrolled)
        self._done = {line for line in _read(self._path) if line[0] in known}

    def done(self, identity: str, photo: Path) -> bool:
        """Say whether a photo of an identity was enrolled by an import that has not come to its end."""
        return bool(self._done) and (identity, _digest(photo)) in self._done

    def add(self, identity: str, photo: Path) -> None:
        """Note, durably, that a photo is enrolled."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "wb") as file:
            file.write(json.dumps([identity, _digest(photo)]).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> None:
        """Forget all: the import has come to its end."""
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> Iterable[tuple[str, str]]:
    """Yield a journal's lines; one that was cut off, or is none, says nothing."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            match json.loads(line):
                case [str(identity), str(digest)]:
                    yield identity, digest
        except ValueError:
            continue


def _digest(photo: Path) -> str:
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
