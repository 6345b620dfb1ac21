"""What is done to a gallery's store, to be recorded: `main` does an operation on what its preparation has left."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parties.gallery.kind import GalleryKind
from parties.gallery.store import rotation, store, tables
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import RingArray
from support.crashes.record import mark

__all__ = ["BEFORE", "CASES", "Case", "Shares", "before", "gallery", "main", "state", "value"]

MODEL, DIMENSION = "m", 4
Shares = dict[str, list[list[int]]]


def value(seed: int) -> RingArray:
    return np.random.default_rng(seed).integers(0, 2**64, DIMENSION, dtype=np.uint64)


def gallery(folder: Path, **changes: Any) -> GalleryStore:
    return GalleryStore(folder / "g", MODEL, DIMENSION, GalleryKind.PRIVATE, **changes)


def state(folder: Path) -> tuple[Shares, int]:
    """Open the store in a folder; return its shares by identity, and the key's generation."""
    with gallery(folder) as opened:
        shares = {name: [share.tolist() for _, share in opened.get(name)] for name in opened.identities()}
        entries = [(entry.row, share.tolist()) for entry, share in opened.entries()]
        assert sorted(share for _, share in entries) == sorted(share for listed in shares.values() for share in listed)
        assert len(entries) == opened.count
        return shares, opened.generation


@dataclass(frozen=True)
class Case:
    """An operation, what it begins with, and the state after it."""

    operation: Callable[[Path], None]
    after: tuple[Shares, int]
    prepare: Callable[[Path], None]
    gone: bytes | None = None
    """What must not be in the files once the operation has begun to show."""

    @property
    def start(self) -> tuple[Shares, int]:
        """The state before it."""
        return ({}, 1) if self.prepare in (nothing, exported) else (BEFORE, 1)


def main(folder: Path, name: str) -> None:
    """Do a case's operation, some rows at a time."""
    for module in (store, tables, rotation):
        module.batch_rows = lambda dimension: 2  # type: ignore[attr-defined]
    CASES[name].operation(folder)
    mark("done")


def nothing(folder: Path) -> None:
    """Leave no store."""


def before(folder: Path) -> None:
    """Make the store that most operations begin with."""
    with gallery(folder) as opened:
        opened.enroll_many((name, value(seed)) for seed, name in enumerate(["alice", "bob", "alice", "carol"]))


def exported(folder: Path) -> None:
    """Leave an exported file beside an empty store."""
    before(folder)
    with gallery(folder) as opened:
        opened.export(folder / "exported")
    (folder / "g").unlink()
    create(folder)


def older_version(folder: Path) -> None:
    """Make a store of version 1."""
    before(folder)
    with sqlite3.connect(folder / "g") as connection:
        for statement in (
            *(f"DROP INDEX {table}_copy" for table in ("state", "reservation", "change")),
            "DROP TABLE bucket",
            "DROP TABLE query",
            "DROP TABLE rate",
            "ALTER TABLE state DROP COLUMN salt",
            "ALTER TABLE state DROP COLUMN query_time",
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
    connection.close()


def left_half_done(folder: Path) -> None:
    """Make a store as it is after a crash: a reservation, and a replacement that was under way."""
    before(folder)
    with gallery(folder) as opened:
        opened.reserve("zoë")
        opened._tables.put_share(Entry(1, "alice", 1, 2), b"alice", bytes(8 * DIMENSION))


def create(folder: Path) -> None:
    gallery(folder).close()


def enroll(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.enroll("dora", value(9))


def reserve_and_commit(folder: Path) -> None:
    with gallery(folder) as opened:
        entry = opened.reserve("dora")
        mark(f"handed out {entry.row} {entry.photo}")
        opened.commit(entry, value(9))


def remove(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.remove("alice")


def replace(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.replace_shares((entry.row, share + np.uint64(1)) for entry, share in opened.entries())


def import_(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.import_(folder / "exported")


def export(folder: Path) -> None:
    with gallery(folder) as opened:
        opened.export(folder / "exported")


def lists(*seeds: int) -> list[list[int]]:
    return [value(seed).tolist() for seed in seeds]


BEFORE: Shares = {"alice": lists(0, 2), "bob": lists(1), "carol": lists(3)}
NEW_KEY = {name: [[(word + 1) % 2**64 for word in share] for share in shares] for name, shares in BEFORE.items()}
CASES = {
    "create": Case(create, ({}, 1), nothing),
    "enroll": Case(enroll, (BEFORE | {"dora": lists(9)}, 1), before),
    "reserve and commit": Case(reserve_and_commit, (BEFORE | {"dora": lists(9)}, 1), before),
    "remove": Case(remove, ({"bob": lists(1), "carol": lists(3)}, 1), before, gone=b"alice"),
    "replace": Case(replace, (NEW_KEY, 2), before, gone=value(0).tobytes()),
    "import": Case(import_, (BEFORE, 1), exported),
    "migrate": Case(create, (BEFORE, 1), older_version),
    "clean up": Case(create, (BEFORE, 1), left_half_done, gone="zoë".encode()),
    "export": Case(export, (BEFORE, 1), before),
}
