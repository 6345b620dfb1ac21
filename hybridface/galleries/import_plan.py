"""Plan an import: a rule gives each photo of a folder the name of a person; photos without a clear name are reported.

By folder, a photo gets the name of its own folder. By file, it gets the name of the file. A photo that lies beside the
folders gets the name of the file by either rule. With a CSV file of names, it gets the name that the file gives it. A
name that occurs in two places could belong to two people, so none of these photos is used. Only a CSV file may say that
they show one person.
"""

import csv
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hybridface.galleries.folder_photos import Kind, Unused, find_photos
from parties.gallery.store.identities import person_name
from parties.machine.plain_files import plain_lines
from protocols.errors import ParameterError

__all__ = ["IdentityRule", "ImportPlan", "plan_import"]

_MOST_BYTES, _MOST_LINES = 1 << 28, 1 << 20
_COLUMNS = {"photo", "identity"}


class IdentityRule(StrEnum):
    """Where the name of a photo's person comes from."""

    FOLDER = "folder"
    FILE = "file"
    CSV = "csv"


@dataclass(frozen=True)
class ImportPlan:
    """Photos of a folder, and the people they show.

    Args:
        people: the name of each photo's person, and the photo.
        unused: all other files.
        alike: names that differ in case only: they count as different people.
    """

    people: tuple[tuple[str, Path], ...]
    unused: tuple[Unused, ...]
    alike: tuple[tuple[str, ...], ...]


def plan_import(folder: Path, rule: IdentityRule, names: Path | None = None) -> ImportPlan:
    """Say which people the photos in a folder show.

    Args:
        names: for the rule CSV: a CSV file with the columns photo (a path in the folder) and identity.

    Raises:
        ParameterError: the CSV file is missing or damaged, or is given with another rule.
    """
    if (rule is IdentityRule.CSV) is (names is None):
        raise ParameterError("expected --names (a CSV file) and --identity-from csv together, got only one of them")
    photos, unused = find_photos(folder)
    if names:
        photos = [photo for photo in photos if not _same_file(photo, names)]
        unused = [one for one in unused if not _same_file(one.path, names)]
        people, more = _by_list(folder, photos, names)
    else:
        people, more = _by_place(folder, photos, rule)
    return ImportPlan(tuple(people), tuple(unused + more), _alike(name for name, _ in people))


def _by_place(folder: Path, photos: Iterable[Path], rule: IdentityRule) -> tuple[list[tuple[str, Path]], list[Unused]]:
    """Name photos by their folders or files; a name in two places counts for nobody."""
    named, unused = [], []
    places: dict[str, set[Path]] = defaultdict(set)
    for photo in photos:
        by_folder = rule is IdentityRule.FOLDER and photo.parent != folder
        try:
            name = person_name(photo.parent.name if by_folder else photo.stem)
        except ParameterError as error:
            unused.append(Unused(photo, Kind.FAULT, str(error)))
            continue
        named.append((name, photo))
        places[name].add(photo.parent)
    people = []
    for name, photo in named:
        if len(places[name]) == 1:
            people.append((name, photo))
        else:
            unused.append(Unused(photo, Kind.FAULT, _two_places(name, folder, places[name])))
    return people, unused


def _two_places(name: str, folder: Path, places: Iterable[Path]) -> str:
    where = " and ".join(repr(str(place.relative_to(folder))) for place in sorted(places)[:2])
    return f"{name[:40]!r} lies in {where}: rename one, or say with --identity-from csv that they are one person"


def _by_list(folder: Path, photos: Iterable[Path], names: Path) -> tuple[list[tuple[str, Path]], list[Unused]]:
    """Name photos as a CSV file says."""
    listed = _read_names(names)
    people, unused = [], []
    for photo in photos:
        given = listed.pop(_key(str(photo.relative_to(folder))), {})
        if not given:
            unused.append(Unused(photo, Kind.OTHER, f"not in {names.name}"))
        elif len(given) > 1:
            lines = " and ".join(str(line) for line in sorted(given.values())[:2])
            unused.append(Unused(photo, Kind.FAULT, f"{names.name} names two people for it, in lines {lines}"))
        else:
            people.append((next(iter(given)), photo))
    for path, given in listed.items():
        line = min(given.values())
        unused.append(Unused(folder / path, Kind.FAULT, f"in line {line} of {names.name}, but there is no such photo"))
    return people, unused


def _read_names(names: Path) -> dict[str, dict[str, int]]:
    """Return, for each photo's path, the names that a CSV file gives and their lines.

    Raises:
        ParameterError: the file cannot be read, or a line has no photo or no name.
    """
    listed: dict[str, dict[str, int]] = defaultdict(dict)
    try:
        lines = plain_lines(names, _MOST_BYTES, _MOST_LINES, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(lines, strict=True)
        if not set(reader.fieldnames or ()) >= _COLUMNS:
            raise ParameterError(f"{names.name}: expected a first line with the columns photo and identity")
        for row in reader:
            path, name = _row(row, f"{names.name}: line {reader.line_num}")
            listed[path].setdefault(name, reader.line_num)
    except OSError as error:
        most = f"{names.name}: expected a CSV file of at most {_MOST_BYTES >> 20} MB"
        raise ParameterError(f"{most}, but cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParameterError(f"{names.name}: expected a CSV file in UTF-8, got other bytes") from error
    except csv.Error as error:
        raise ParameterError(f"{names.name}: expected a CSV file, got one that is damaged: {error}") from error
    return listed


def _row(row: Mapping[str | None, object], where: str) -> tuple[str, str]:
    match row.get("photo"), row.get("identity"):
        case str(photo), str(identity) if photo and None not in row:
            try:
                return _key(photo), person_name(identity)
            except ParameterError as error:
                raise ParameterError(f"{where}: {error}") from error
    raise ParameterError(f"{where}: expected a photo and an identity, got too few or too many fields")


def _key(path: str) -> str:
    """Return a path in a normal form, because file systems and spreadsheets write accented letters differently."""
    return unicodedata.normalize("NFC", os.path.normpath(path))


def _same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _alike(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    forms: dict[str, set[str]] = defaultdict(set)
    for name in names:
        forms[name.casefold()].add(name)
    return tuple(tuple(sorted(form)) for form in forms.values() if len(form) > 1)
