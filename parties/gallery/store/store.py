"""Keep the server's gallery: shares of templates by identity, in one SQLite file that survives crashes.

**Secrecy.** In a private gallery a share is the template minus a key stream. Only the client can compute the stream,
from the identity, the photo's number and the key's generation. So the file alone is uniform noise, as long as no two
templates are hidden by one stream. Therefore a photo's number is never used twice for an identity. A row's number, from
which identification derives a mask, is never used twice at all. This holds whatever is removed, cancelled, or lost in
a crash.

**Removal.** A removed identity leaves no trace in the file, not even its counter. New photos of anybody get numbers
above all removed ones.

**Reservations.** An enrolment that needs its numbers before there is a share reserves them and commits later. Readers
do not see reservations. When the store is next opened for writing, it removes the reservations of ended processes.

**Processes.** Several processes may read and write. Iterators read in batches and hold no lock between batches.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import StoreError, TracesLeftError
from parties.gallery.kind import GalleryKind
from parties.gallery.store import exchange, renaming, rotation
from parties.gallery.store.database import TIMEOUT_SECONDS, Database, WriterLock, create_database
from parties.gallery.store.records import Changes, Entry, identity_bytes, share_array, share_bytes
from parties.gallery.store.schema import VERSION
from parties.gallery.store.tables import Tables, batch_rows
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError

__all__ = ["GalleryStore", "Header", "header_of"]

_MAX_DIMENSION = 1 << 16
_MAX_MODEL = 256
_FETCHED = 500


class GalleryStore:
    """The open file of a gallery; a context manager.

    Args:
        path: of the file. The store makes the file if there is none, unless `read_only`.
        model: digest of the model that the templates come from.
        dimension: of the templates.
        kind: of the gallery. None means the kind in the file, and private for a new file.
        read_only: never write, not even to clean up after a crash. A file of an older version stays as it is.
        check: check the whole file first, and refuse a damaged one.
        timeout: longest time to wait for other processes, in seconds.

    Raises:
        StoreError: the file is not a store or is damaged, or its model, dimension or kind is another one, or its
            version is newer.
        ParameterError: the model or the dimension is out of range.
    """

    def __init__(
        self,
        path: Path,
        model: str,
        dimension: int,
        kind: GalleryKind | None,
        read_only: bool = False,
        check: bool = True,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        if not 0 < len(model) <= _MAX_MODEL or not 0 < dimension <= _MAX_DIMENSION:
            raise ParameterError(
                f"expected a model's digest of at most {_MAX_MODEL} characters and a dimension of 1 to"
                f" {_MAX_DIMENSION}, got {len(model)} and {dimension}"
            )
        self.path, self.dimension = path, dimension
        self._lock = None if read_only else WriterLock(path, timeout)
        try:
            if self._lock and self._lock.is_alone and not path.exists():
                create_database(path, model, dimension, kind or GalleryKind.PRIVATE)
            self._database = Database(path, timeout, read_only)
            try:
                self._tables = Tables(self._database, dimension)
                self.kind = self._begin(model, kind, check)
            except BaseException:
                self._database.close()
                raise
            if self._lock and self._lock.is_alone:
                self._lock.share()
        except BaseException:
            if self._lock:
                self._lock.close()
            raise

    def _begin(self, model: str, kind: GalleryKind | None, check: bool) -> GalleryKind:
        """Check the file, bring it to this version, and clean up after ended processes; return the gallery's kind."""
        if check:
            self._database.check()
        if self._database.version < VERSION and self._lock:
            self._database.migrate()
        found = self._tables.expect(model, kind)
        if check:
            self._tables.check()
        if self._lock and self._lock.is_alone:
            self._tables.forget_reservations()
            rotation.clean(self._tables)
            if self._database.number("SELECT erasing FROM state"):
                self._tables.erase()
        return found

    @property
    def database(self) -> Database:
        """The open file, for code that uses other tables of it (see `QueryLimits`)."""
        return self._database

    @property
    def scope(self) -> bytes:
        """16 random bytes for the client's key streams. All copies and exports of a gallery have the same."""
        return self._tables.identifier("scope")

    @property
    def lineage(self) -> bytes:
        """16 random bytes that name this file's history, for parties with an index. An import begins a new history."""
        return self._tables.identifier("lineage")

    @property
    def generation(self) -> int:
        """The generation of the client's key: 1 plus the number of times that the shares were replaced."""
        return self._tables.generation()

    @property
    def count(self) -> int:
        """The number of enrolled photos."""
        return self._tables.count()

    def enroll(self, identity: str, share: RingArray) -> Entry:
        """Add a photo whose share, uint64 (d,), does not depend on its numbers; completely or not at all."""
        return self.enroll_together(identity, [share])[0]

    def enroll_together(self, identity: str, shares: Sequence[RingArray]) -> list[Entry]:
        """Add photos of one identity like `enroll`: all of them, or none."""
        raw, values = identity_bytes(identity), [share_bytes(share, self.dimension) for share in shares]
        with self._database.writing():
            return [self._tables.add(identity, raw, value) for value in values]

    def enroll_many(
        self, pairs: Iterable[tuple[str, RingArray]], on_entries: Callable[[list[Entry]], None] | None = None
    ) -> int:
        """Add photos from an iterator of (identity, share), in batches of some megabytes; return how many photos.

        Each batch is added completely or not at all. Batches before an error stay.

        Args:
            on_entries: called with the entries of each batch, after the batch has reached the disk.
        """
        total, source = 0, iter(pairs)
        while batch := list(islice(source, batch_rows(self.dimension))):
            checked = [(name, identity_bytes(name), share_bytes(share, self.dimension)) for name, share in batch]
            with self._database.writing():
                entries = [self._tables.add(*one) for one in checked]
            total += len(entries)
            if on_entries:
                on_entries(entries)
        return total

    def reserve(self, identity: str) -> Entry:
        """Reserve and return the numbers of a photo, to be committed or cancelled later. No other photo gets them."""
        return self.reserve_many([identity])[0]

    def reserve_many(self, identities: Sequence[str]) -> list[Entry]:
        """Reserve the numbers of several photos at once, in order. An identity may occur several times."""
        checked = [(identity, identity_bytes(identity)) for identity in identities]
        with self._database.writing():
            return [self._tables.reserve(identity, raw) for identity, raw in checked]

    def commit(self, entry: Entry, share: RingArray) -> None:
        """Enrol a reserved entry by giving it its share, uint64 (d,).

        Raises:
            StoreError: the entry is not reserved (any more), or the key has changed since.
        """
        self.commit_many([(entry, share)])

    def commit_many(self, pairs: Iterable[tuple[Entry, RingArray]]) -> None:
        """Commit several reserved entries at once: all of them, or none."""
        checked = [
            (entry, identity_bytes(entry.identity), share_bytes(share, self.dimension)) for entry, share in pairs
        ]
        with self._database.writing():
            for one in checked:
                self._tables.commit(*one)

    def cancel(self, entry: Entry) -> None:
        """Give up a reservation, if there is one. Its numbers are not used again."""
        self.cancel_many([entry])

    def cancel_many(self, entries: Iterable[Entry]) -> None:
        """Give up several reservations at once."""
        with self._database.writing():
            for entry in entries:
                self._tables.forget_reservation(entry.row, identity_bytes(entry.identity))

    def has(self, identity: str) -> bool:
        """Return whether an identity is enrolled."""
        return self._tables.has(identity_bytes(identity))

    def get(self, identity: str) -> list[tuple[Entry, RingArray]]:
        """Return an identity's photos with their shares, uint64 (d,), in the order of photo numbers.

        Raises:
            StoreError: an entry is damaged.
        """
        return self._tables.select("e.identity = ? ORDER BY e.photo", (identity_bytes(identity),))

    def entries(self) -> Iterator[tuple[Entry, RingArray]]:
        """Iterate over all photos and their shares, uint64 (d,), in the order of rows.

        Raises:
            StoreError: an entry is damaged, or the key has changed meanwhile.
        """
        for batch, shares in self.blocks():
            yield from zip(batch, shares, strict=True)

    def blocks(self, after: int = 0) -> Iterator[tuple[list[Entry], RingArray]]:
        """Iterate over batches of the rows above `after`, in order: n entries and their shares, uint64 (n, d)."""
        generation = None
        while batch := self._tables.select("e.row > ? ORDER BY e.row LIMIT ?", (after, batch_rows(self.dimension))):
            if generation not in (None, batch[0][0].generation):
                raise StoreError(
                    f"{self.path.name}: expected one key while reading, but the key has changed: read again"
                )
            generation, after = batch[0][0].generation, batch[-1][0].row
            yield [entry for entry, _ in batch], np.stack([share for _, share in batch])

    def shares(self, rows: Sequence[int], generation: int | None = None) -> RingArray:
        """Return the shares of rows, uint64 (n, d), in the order of `rows`.

        Args:
            generation: the key's generation that the shares must have; None for any.

        Raises:
            StoreError: a row does not exist or is damaged, or the shares have another generation.
        """
        found: dict[int, RingArray] = {}
        wanted = [int(row) for row in rows]
        with self._database.reading():
            if generation not in (None, self.generation):
                raise StoreError(f"{self.path.name}: expected the key's generation {generation}, but it has changed")
            for start in range(0, len(wanted), _FETCHED):
                part = tuple(wanted[start : start + _FETCHED])
                marks = ", ".join("?" * len(part))
                found |= {entry.row: share for entry, share in self._tables.select(f"e.row IN ({marks})", part)}
        missing = next((row for row in wanted if row not in found), None)
        if missing is not None:
            raise StoreError(f"{self.path.name}: expected a row of an enrolled photo, got {missing}")
        return np.stack([found[row] for row in wanted]) if wanted else share_array([], self.dimension)

    def identities(self) -> dict[str, int]:
        """Return all identities, ordered by their characters' code points, and how many photos each has."""
        return self._tables.identities()

    def remove(self, identity: str) -> int:
        """Remove an identity's photos, and every trace of them in the file; return how many photos."""
        return self.remove_many([identity])

    def remove_many(self, identities: Iterable[str]) -> int:
        """Remove several identities at once; return how many photos.

        This rewrites the file, so it costs hardly more than removing one identity.

        Raises:
            TracesLeftError: the photos are removed, but old bytes are still in the file, since a process reads them or
                the disk is full. The next removal or `erase` erases them, or the next process that alone opens the
                store for writing.
        """
        checked = [identity_bytes(identity) for identity in identities]
        with self._database.writing():
            removed = sum(self._tables.remove(raw) for raw in checked)
        return self._without_traces(removed)

    def remove_photos(self, identity: str, photos: Sequence[int]) -> int:
        """Remove some of an identity's photos, by their numbers, like `remove_many`; return how many photos."""
        raw = identity_bytes(identity)
        with self._database.writing():
            removed = self._tables.remove_photos(raw, photos)
        return self._without_traces(removed)

    def rename(self, old: str, new: str, on_moved: Callable[[dict[int, int]], None] | None = None) -> None:
        """Give an identity of a list a new name that nobody has.

        Args:
            on_moved: called with the new row of each old row, before anything is erased.

        Raises:
            RefusalError: nobody has the old name, or somebody has the new one.
            TracesLeftError: as for `remove_many`.
        """
        rows = renaming.rename(self._tables, old, new)
        if on_moved:
            on_moved(rows)
        self._without_traces(len(rows))

    def commit_name(self, old: Sequence[Entry], new: Sequence[Entry], change: RingArray) -> None:
        """Give an identity of a private gallery a new name, like `rename`.

        Args:
            old: all n photos of the identity, in the order of photo numbers.
            new: n entries that are reserved under the new name.
            change: uint64 (n, d), to be added to the shares.
        """
        renaming.commit_name(self._tables, old, new, change)
        self._without_traces(len(new))

    def _without_traces(self, removed: int) -> int:
        """Erase the traces of removed photos; return `removed`, the number of photos."""
        if self._database.number("SELECT erasing FROM state"):
            try:
                self.erase()
            except StoreError as error:
                raise TracesLeftError(str(error), removed) from error
        return removed

    def erase(self) -> None:
        """Rewrite the file without the traces of removed photos and cancelled reservations.

        Raises:
            StoreError: see `remove_many`.
        """
        if not self._tables.erase():
            raise StoreError(
                f"{self.path.name}: removed, but a reader still holds the old bytes; they go with the next removal, or"
                " when one process alone opens the gallery"
            )

    @property
    def last_change(self) -> int:
        """The number of the last change; 0 if there was none."""
        return self._tables.last_change()

    def changes_since(self, number: int) -> Changes:
        """Return which rows were added and removed after a change.

        Args:
            number: of the change; 0 for the whole history.

        Raises:
            StoreError: the number is above the last change's, so it is of another lineage.
        """
        return self._tables.changes(number)

    def listing(self, number: int) -> tuple[int, int, NDArray[np.int64], list[Entry]]:
        """Return the rows removed and the entries added after a change, without shares: see `Tables.listing`.

        Raises:
            StoreError: as for `changes_since`.
        """
        return self._tables.listing(number)

    def replace_shares(self, pairs: Iterable[tuple[int, RingArray]]) -> int:
        """Replace all shares by those of the key's next generation, or none of them; return that generation.

        The store uses the old shares until all new ones have reached the disk.

        Args:
            pairs: rows and their new shares. The iterator may read from this store.

        Raises:
            StoreError: a row is missing, unknown or there twice, or another replacement has begun. The old shares
                stay.
        """
        return rotation.replace_shares(self._tables, pairs)

    def export(self, path: Path) -> int:
        """Write all photos, with shares as they are stored, to a new file (see `exchange`); return how many photos."""
        return exchange.export(self._tables, path)

    def import_(self, path: Path) -> int:
        """Read an exported file into this store, completely or not at all; return how many photos.

        Raises:
            StoreError: the file is damaged or of another kind, or somebody was enrolled in this store before.
        """
        return exchange.import_(self._tables, path)

    def close(self) -> None:
        """Close the file. The next process that alone opens it for writing removes its reservations."""
        self._database.close()
        if self._lock:
            self._lock.close()

    def __enter__(self) -> "GalleryStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Header:
    """A store's description of itself.

    Args:
        kind: of the gallery.
        model: digest of the model that the templates come from.
        dimension: of the templates.
        count: number of enrolled photos.
        scope: of the gallery, 16 bytes.
    """

    kind: GalleryKind
    model: str
    dimension: int
    count: int
    scope: bytes


def header_of(path: Path) -> Header:
    """Return a store's header, without checking the rest of the file.

    Raises:
        StoreError: there is no store, or it is of a newer version, or it is damaged.
    """
    with closing(Database(path, read_only=True)) as database:
        found = database.rows("SELECT kind, model, dimension, scope FROM state")
        count = database.number("SELECT count(*) FROM entry WHERE row NOT IN (SELECT row FROM reservation)")
    match found:
        case [(str(kind), str(model), int(dimension), bytes(scope))] if kind in list(GalleryKind):
            return Header(GalleryKind(kind), model, dimension, count, scope)
    raise StoreError(f"{path.name}: expected a gallery of kind {' or '.join(GalleryKind)}: the store is damaged")
