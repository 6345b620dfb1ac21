"""What a client does with a gallery, as data: tasks go to its rank in a file, one JSON object a line.

A file rather than a command line, since other users of a machine see command lines, and identities may be long.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from protocols.errors import ParameterError

__all__ = ["GalleryTask", "Verb", "read_tasks", "together", "write_tasks"]


class Verb(StrEnum):
    """What to do."""

    ENROLL = "enroll"
    VERIFY = "verify"
    IDENTIFY = "identify"
    LIST = "list"
    REMOVE = "remove"
    ROTATE = "rotate"
    RENAME = "rename"


@dataclass(frozen=True)
class GalleryTask:
    """One request to a gallery.

    Args:
        verb: what to do.
        identity: whom to enrol, verify, remove or rename.
        photo: to enrol, verify or identify; a path.
        top: identities that an identification asks for.
        key: file of the key to change to.
        optional: a photo that cannot be used is told, and ends nothing: for whole folders. Other photos of one person
            that follow each other are enrolled together: all, or none.
        chip: the photo as an aligned face, a path: then the photo is not read.
        name: to rename somebody to.
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


def read_tasks(path: Path) -> Iterator[GalleryTask]:
    """Yield the tasks of a file.

    Raises:
        ParameterError: the file cannot be read, or a line is no task.
    """
    try:
        with path.open() as file:
            for line in file:
                fields = json.loads(line)
                yield GalleryTask(**{**fields, "verb": Verb(fields["verb"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParameterError(f"expected tasks for a gallery in {path.name}, got {type(error).__name__}") from error


def together(tasks: Iterable[GalleryTask]) -> Iterator[list[GalleryTask]]:
    """Yield the tasks in order, those that are done in whole or not at all in one list."""

    def what(numbered: tuple[int, GalleryTask]) -> tuple[object, ...]:
        number, task = numbered
        enrols = task.verb is Verb.ENROLL and not task.optional
        return (task.identity,) if enrols else (task.identity, number)

    for _, group in itertools.groupby(enumerate(tasks), what):
        yield [task for _, task in group]
