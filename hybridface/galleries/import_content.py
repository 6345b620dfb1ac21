"""Find what is new in a plan, by the content of the photos, so that a changed name or place does not matter."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridface.errors import escaped
from hybridface.galleries.folder_photos import Kind, Unused
from hybridface.galleries.import_journal import ImportJournal, photo_digest

__all__ = ["ImportContent", "Photo", "sort_out"]


@dataclass(frozen=True)
class Photo:
    """A photo of a plan.

    Args:
        identity: the person it shows.
        digest: digest of its file.
    """

    identity: str
    path: Path
    digest: bytes


@dataclass(frozen=True)
class ImportContent:
    """Photos of a plan, by what the import does with them.

    Args:
        missing: photos to enrol.
        done: photos that are enrolled already for the same person.
        unused: copies of other photos, and photos that cannot be used.
    """

    missing: tuple[Photo, ...]
    done: tuple[Photo, ...]
    unused: tuple[Unused, ...]


def sort_out(people: Sequence[tuple[str, Path]], journal: ImportJournal | None) -> ImportContent:
    """Read all photos, and say which of them to enrol.

    Args:
        people: the name of each photo's person, and the photo.
        journal: the gallery's record of imports; None if there is no gallery yet.
    """
    photos, unused = _read(people)
    missing, done = [], []
    for photo in _without_copies(photos, unused):
        owners = journal.owners(photo.digest) if journal else set()
        if photo.identity in owners:
            done.append(photo)
        elif owners:
            unused.append(Unused(photo.path, Kind.FAULT, f"the same photo is enrolled as {min(owners)[:40]!r}"))
        else:
            missing.append(photo)
    return ImportContent(tuple(missing), tuple(done), tuple(unused))


def _read(people: Sequence[tuple[str, Path]]) -> tuple[list[Photo], list[Unused]]:
    photos, unused = [], []
    for identity, path in people:
        try:
            photos.append(Photo(identity, path, photo_digest(path)))
        except OSError as error:
            unused.append(Unused(path, Kind.FAULT, f"cannot be read: {error.strerror}"))
        except ValueError as error:
            unused.append(Unused(path, Kind.FAULT, str(error)))
    return photos, unused


def _without_copies(photos: Sequence[Photo], unused: list[Unused]) -> list[Photo]:
    """Return one of each person's copies of a photo; if two people have copies of a photo, return none."""
    copies: dict[bytes, list[Photo]] = defaultdict(list)
    for photo in photos:
        copies[photo.digest].append(photo)
    kept = []
    for first, *others in copies.values():
        stranger = next((other for other in others if other.identity != first.identity), None)
        if stranger is None:
            kept.append(first)
            unused += [
                Unused(other.path, Kind.OTHER, f"the same photo as {escaped(str(first.path))}") for other in others
            ]
            continue
        for photo in (first, *others):
            whose = stranger if photo.identity == first.identity else first
            reason = f"the same photo as {escaped(str(whose.path))}, of {whose.identity[:40]!r}"
            unused.append(Unused(photo.path, Kind.FAULT, reason))
    return kept
