"""Tasks for the client of a gallery, as data: its rank reads them from a file, one JSON object per line.

A file is better than a command line: other users of the machine can see command lines, and identities may be long.
"""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import get_type_hints

from parties.machine.plain_files import plain_lines
from protocols.errors import ParameterError

__all__ = ["GalleryTask", "Verb", "read_tasks", "together", "write_tasks"]

_MOST_BYTES, _MOST_LINES = 1 << 28, 1 << 21


class Verb(StrEnum):
    """What to do."""

    ENROLL = "enroll"
    VERIFY = "verify"
    IDENTIFY = "identify"
    LIST = "list"
    REMOVE = "remove"
    ROTATE = "rotate"
    RENAME = "rename"


@dataclass(frozen=True, slots=True)
class GalleryTask:
    """One request to a gallery.

    Args:
        verb: what to do.
        identity: the person to enrol, verify, remove or rename.
        photo: path of the photo to enrol, verify or identify.
        top: number of people that an identification asks for.
        key: file of the key to change to.
        optional: for whole folders: report a photo that cannot be used, and go on. Consecutive photos of one person
            without this mark are enrolled together: all, or none.
        chip: path of the photo's aligned crop; if given, the photo itself is not read.
        name: the person's new name.
    """

    verb: Verb
    identity: str | None = None
    photo: str | None = None
    top: int = 1
    key: str | None = None
    optional: bool = False
    chip: str | None = None
    name: str | None = None


def write_tasks(path: Path, tasks: Iterable[GalleryTask]) -> None:
    """Write tasks to a file."""
    with path.open("w") as file:
        for task in tasks:
            file.write(json.dumps(asdict(task)) + "\n")


def read_tasks(path: Path) -> list[GalleryTask]:
    """Return the tasks of a file (docs/BETWEEN_MACHINES.md); skip empty lines.

    Raises:
        ParameterError: the file cannot be read, is no plain file, or has more than 256 MB or two million lines; or a
            line is no task: the message says which line, and why.
    """
    try:
        lines = enumerate(plain_lines(path, _MOST_BYTES, _MOST_LINES), 1)
        return [_task(line, f"{path.name}, line {number}") for number, line in lines if not line.isspace()]
    except OSError as error:
        raise ParameterError(f"cannot read the tasks in {path.name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParameterError(f"cannot read the tasks in {path.name}: expected UTF-8, got other bytes") from error


def together(tasks: Iterable[GalleryTask]) -> Iterator[list[GalleryTask]]:
    """Yield the tasks in order, in lists: the tasks of a list are done all or not at all."""

    def what(numbered: tuple[int, GalleryTask]) -> tuple[object, ...]:
        number, task = numbered
        enrols = task.verb is Verb.ENROLL and not task.optional
        return (task.identity,) if enrols else (task.identity, number)

    for _, group in itertools.groupby(enumerate(tasks), what):
        yield [task for _, task in group]


_NEEDED = {
    Verb.ENROLL: ("identity", "photo"),
    Verb.VERIFY: ("identity", "photo"),
    Verb.IDENTIFY: ("photo",),
    Verb.REMOVE: ("identity",),
    Verb.RENAME: ("identity", "name"),
    Verb.ROTATE: ("key",),
}
_TYPES = get_type_hints(GalleryTask)
_PATHS = {"photo", "key", "chip"}


def _task(line: str, where: str) -> GalleryTask:
    """Return the task of a line; refuse unknown fields, fields of other types, and missing fields."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{where}: expected a JSON object, got {type(error).__name__}") from error
    if not isinstance(found, dict) or found.get("verb") not in list(Verb):
        raise ParameterError(f"{where}: expected a JSON object with a verb among {', '.join(Verb)}")
    if unknown := found.keys() - _TYPES.keys():
        raise ParameterError(f"{where}: expected the fields {', '.join(_TYPES)}, got {min(unknown)[:40]!r}")
    task = GalleryTask(**{**found, "verb": Verb(found["verb"])})
    for name, kind in _TYPES.items():
        value = getattr(task, name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ParameterError(f"{where}: expected another type of {name!r}, got {type(value).__name__}")
        if name in _PATHS and isinstance(value, str) and not _is_path(value):
            raise ParameterError(f"{where}: expected the name of a file in {name!r}, got one that no file can have")
    for name in _NEEDED.get(task.verb, ()):
        if getattr(task, name) is None:
            raise ParameterError(f"{where}: expected {name!r} for the verb {task.verb}, got none")
    return task


def _is_path(text: str) -> bool:
    """Return whether a file can have this name; bytes of a name that are not UTF-8 are surrogates in it."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
