"""What an interrupted import has done already, so that the same command goes on from there.

A file for each gallery, beside the key of a private one, or beside a list: it names people and has hashes of their
photos, so it is for the eyes of whoever chose the photos. It is there from the beginning of an import until all its
photos are enrolled. A photo counts as done after the gallery holds it; the one that was in work at the interruption may
be enrolled twice, which changes no answer.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from hybridface.errors import RunError
from parties.machine.durable import append_durably, write_durably

__all__ = ["ImportJournal"]

Entry = tuple[str, str]


class ImportJournal:
    """The photos of an import that are done.

    Args:
        beside: the file beside which it lies.
        gallery: the gallery's file.
        enrolled: how many photos of whom are in the gallery now. If it has fewer of somebody than are noted, some were
            removed since, and nothing that is noted of them counts.

    Raises:
        RunError: the journal cannot be written.
    """

    def __init__(self, beside: Path, gallery: Path, enrolled: Mapping[str, int]) -> None:
        name = hashlib.sha256(str(gallery.resolve()).encode()).hexdigest()[:16]
        self._path = beside.with_name(f"{beside.name}.{name}.import")
        noted = dict.fromkeys(_read(self._path))
        photos = Counter(identity for identity, _ in noted)
        self._done = {entry for entry in noted if photos[entry[0]] <= enrolled.get(entry[0], 0)}
        try:
            beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._path, b"".join(_line(entry) for entry in noted if entry in self._done))
        except OSError as error:
            raise self._refusal(error) from error

    def done(self, identity: str, photo: Path) -> bool:
        """Say whether a photo of an identity was enrolled by an import that has not come to its end."""
        try:
            return bool(self._done) and (identity, _digest(photo)) in self._done
        except OSError:  # whoever enrols it says what is wrong with it
            return False

    def add(self, identity: str, photo: Path) -> None:
        """Note, durably, that a photo is enrolled.

        Raises:
            RunError: the journal cannot be written.
        """
        try:
            append_durably(self._path, _line((identity, _digest(photo))))
        except OSError as error:
            raise self._refusal(error) from error

    def end(self) -> None:
        """Forget all: the import has come to its end."""
        self._path.unlink(missing_ok=True)

    def _refusal(self, error: OSError) -> RunError:
        return RunError(f"{self._path.name}: cannot note what is enrolled: {error.strerror}")


def _read(path: Path) -> Iterable[Entry]:
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


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _digest(photo: Path) -> str:
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
