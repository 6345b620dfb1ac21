"""Whose photos a folder has: a rule says whose name each photo bears, and what the rule does not settle is told.

By folder, a photo is of whom its own folder is named after; by file, of whom the file is. One that lies beside the
folders is of whom the file is named after by either rule. With a list of names (CSV) it is of whom the list says. A
name that lies in two places could be two people's, so none of these photos is used. Only a list may say that they are
one person's.
"""

import csv
import io
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hybridface.galleries.folder_photos import Kind, Unused, find_photos
from parties.gallery.store.identities import person_name
from parties.machine.plain_files import read_plain
from protocols.errors import ParameterError

__all__ = ["IdentityRule", "ImportPlan", "plan_import"]

_MOST_BYTES = 1 << 28
_COLUMNS = {"photo", "identity"}


class IdentityRule(StrEnum):
    """Where a photo's name is found."""

    FOLDER = "folder"
    FILE = "file"
    CSV = "csv"


@dataclass(frozen=True)
class ImportPlan:
    """Photos of a folder, and whose they are.

    Args:
        people: whose each photo is.
        unused: all other files.
        alike: names that differ in case alone: they are taken for different people.
    """

    people: tuple[tuple[str, Path], ...]
    unused: tuple[Unused, ...]
    alike: tuple[tuple[str, ...], ...]


def plan_import(folder: Path, rule: IdentityRule, names: Path | None = None) -> ImportPlan:
    """Say whose photos lie in a folder.

    Args:
        names: a CSV file with the columns photo, a path in the folder, and identity; with the rule CSV.

    Raises:
        ParameterError: there is no such list, or it is damaged; or there is one, and another rule.
    """
    if (rule is IdentityRule.CSV) is (names is None):
        raise ParameterError("expected --names, a CSV file, with --identity-from csv, and not without it")
    photos, unused = find_photos(folder)
    if names:
        photos = [photo for photo in photos if not _same_file(photo, names)]
        unused = [one for one in unused if not _same_file(one.path, names)]
        people, more = _by_list(folder, photos, names)
    else:
        people, more = _by_place(folder, photos, rule)
    return ImportPlan(tuple(people), tuple(unused + more), _alike(name for name, _ in people))


def _by_place(folder: Path, photos: Iterable[Path], rule: IdentityRule) -> tuple[list[tuple[str, Path]], list[Unused]]:
    """Name photos by their folders or files; a name in two places is nobody's."""
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
    """Name photos as a list says."""
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
    """Return, of each photo's path, whom a list names and in which line.

    Raises:
        ParameterError: it cannot be read, or a line is no photo and name.
    """
    listed: dict[str, dict[str, int]] = defaultdict(dict)
    try:
        text = read_plain(names, _MOST_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
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
    """Return a path in one form: file systems and spreadsheets write an accented letter in different ways."""
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
