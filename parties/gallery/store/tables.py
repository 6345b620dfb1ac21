"""Run the statements on a store's tables. Callers of methods that write begin a transaction first."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.database import Database
from parties.gallery.store.log_secret import adopt_log_secret, identity_tag
from parties.gallery.store.records import Changes, Entry, checksum, identity_text, share_array
from protocols.arithmetic.fixed_point import RingArray

__all__ = ["Tables", "batch_rows"]

_BATCH_BYTES = 1 << 22
_ENTRY_BYTES = 128
_TYPES = [int, bytes, int, bytes, int]
_STATE_TYPES = (int, str, int, str, bytes, bytes, int, int, bytes | None, int, bytes | None, float)
_IDENTIFIER_BYTES = {"scope": 16, "lineage": 16}


def batch_rows(dimension: int) -> int:
    """Return how many rows of this dimension to read or write at once."""
    return max(1, _BATCH_BYTES // (8 * dimension + _ENTRY_BYTES))


class Tables:
    """A store's tables.

    Args:
        database: open.
        dimension: of the shares.
    """

    def __init__(self, database: Database, dimension: int) -> None:
        self.database, self.dimension = database, dimension

    def expect(self, model: str, kind: GalleryKind | None) -> GalleryKind:
        """Check the store's model, dimension and kind, and return its kind.

        Args:
            kind: None for either.

        Raises:
            StoreError: the store has another model, dimension or kind, or is damaged.
        """
        whole = self.database.rows("SELECT * FROM state")
        if len(whole) != 1 or not all(map(isinstance, whole[0], _STATE_TYPES)):
            raise self.database.damaged()
        found = self.database.rows("SELECT model, dimension, kind FROM state")
        for known in (kind,) if kind else GalleryKind:
            if found == [(model, self.dimension, str(known))]:
                return known
        got = " ".join(str(value)[:20] for value in found[0]) if found else "none"
        raise StoreError(
            f"{self.database.path.name}: expected a gallery of (model, dimension, kind)"
            f" {model[:20]} {self.dimension} {kind or ' or '.join(GalleryKind)}, got {got}"
        )

    def check(self) -> None:
        """Check that every photo has a share, and that changes and counters fit the photos.

        Raises:
            StoreError: a check fails.
        """
        with self.database.reading():
            self._check_history()
            missing = self.database.rows(
                "SELECT row FROM entry WHERE row NOT IN (SELECT row FROM reservation)"  # noqa: S608
                f" AND row NOT IN (SELECT row FROM share_{self.generation() % 2}) LIMIT 1"
            )
        if missing:
            raise StoreError(
                f"{self.database.path.name}: expected a share of row {missing[0][0]}, found none: the store is damaged"
            )

    def _check_history(self) -> None:
        """Check that the changes add up to the enrolled photos, and that no number will be used again."""
        enrolled = "SELECT row FROM entry WHERE row NOT IN (SELECT row FROM reservation)"
        left = "SELECT row FROM change GROUP BY row HAVING sum(CASE added WHEN 1 THEN 1 WHEN 0 THEN -1 ELSE 9 END) = 1"
        for one, other in ((enrolled, left), (left, enrolled)):
            if self.database.number(f"SELECT EXISTS ({one} EXCEPT {other})"):
                raise StoreError(f"{self.database.path.name}: expected the changes of the enrolled photos, got others")
        for table, used in (
            ("entry", "SELECT max(row) FROM (SELECT max(row) AS row FROM entry UNION SELECT max(row) FROM change)"),
            ("change", "SELECT max(number) FROM change"),
            *([("query", "SELECT max(number) FROM query")] if self.database.has_queries else []),
        ):
            last = self.database.number("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table,))
            if last < self.database.number(used):
                raise StoreError(f"{self.database.path.name}: expected counters above all numbers that were used")

    def generation(self) -> int:
        """Return the key's generation."""
        return self.database.number("SELECT generation FROM state")

    def count(self) -> int:
        """Return how many photos are enrolled."""
        return self.database.number("SELECT (SELECT count(*) FROM entry) - (SELECT count(*) FROM reservation)")

    def identifier(self, name: str) -> bytes:
        """Return an identifier of the store, `scope` or `lineage`, 16 bytes."""
        found = self.database.rows(f"SELECT {name} FROM state", types=(bytes,))  # noqa: S608
        if len(found) != 1 or len(cast(bytes, found[0][0])) != _IDENTIFIER_BYTES[name]:
            raise self.database.damaged()
        return cast(bytes, found[0][0])

    def identities(self) -> dict[str, int]:
        """Return how many enrolled photos each identity has."""
        found = self.database.rows(
            "SELECT identity, count(*) FROM entry WHERE row NOT IN (SELECT row FROM reservation)"
            " GROUP BY identity ORDER BY identity",
            types=(bytes, int),
        )
        return {self._name(raw): cast(int, number) for raw, number in found}

    def reserve(self, identity: str, raw: bytes) -> Entry:
        """Reserve the numbers of a row and of a photo."""
        generation = self.generation()
        entry = self._entry(identity, raw, generation)
        self.database.insert("INSERT INTO reservation VALUES (?, ?)", (entry.row, generation))
        return entry

    def add(self, identity: str, raw: bytes, share: bytes) -> Entry:
        """Add a photo."""
        entry = self._entry(identity, raw, self.generation())
        self.put_share(entry, raw, share)
        self._log(entry.row, True)
        return entry

    def commit(self, entry: Entry, raw: bytes, share: bytes) -> None:
        """Turn a reservation into an enrolled photo."""
        found = self.database.rows(
            "SELECT identity, photo, generation FROM reservation JOIN entry USING (row) WHERE row = ?", (entry.row,)
        )
        name = self.database.path.name
        if found != [(raw, entry.photo, entry.generation)]:
            raise StoreError(f"{name}: expected a reserved entry, got row {entry.row}, which is not reserved")
        if entry.generation != self.generation():
            raise StoreError(
                f"{name}: expected a share under the key's generation {self.generation()}, got {entry.generation}:"
                " the key has changed, reserve again"
            )
        self.database.execute("DELETE FROM reservation WHERE row = ?", (entry.row,))
        self.put_share(entry, raw, share)
        self._log(entry.row, True)

    def put_share(self, entry: Entry, raw: bytes, share: bytes) -> None:
        """Store a share and its checksum in the table of its generation."""
        crc = checksum(self.identifier("scope"), entry, raw, share)
        table = f"share_{entry.generation % 2}"
        self.database.insert(f"INSERT INTO {table} VALUES (?, ?, ?)", (entry.row, share, crc))  # noqa: S608

    def restore(self, entry: Entry, raw: bytes, share: bytes) -> None:
        """Add a photo under the numbers that it had before."""
        self.database.insert("INSERT INTO entry VALUES (?, ?, ?)", (entry.row, raw, entry.photo))
        self.put_share(entry, raw, share)
        self._log(entry.row, True)

    def has(self, raw: bytes) -> bool:
        """Return whether an identity has an enrolled photo; a reservation does not count."""
        query = "SELECT EXISTS (SELECT 1 FROM entry WHERE identity = ? AND row NOT IN (SELECT row FROM reservation))"
        return bool(self.database.number(query, (raw,)))

    def select(self, condition: str, parameters: tuple[object, ...]) -> list[tuple[Entry, RingArray]]:
        """Return the entries of the current generation that meet a condition, with their shares, uint64 (d,)."""
        with self.database.reading():
            generation, scope = self.generation(), self.identifier("scope")
            query = (
                "SELECT e.row, e.identity, e.photo, s.share, s.crc"  # noqa: S608
                f" FROM entry e JOIN share_{generation % 2} s ON s.row = e.row WHERE {condition}"
            )
            found = self.database.rows(query, parameters)
        entries, parts = [], []
        for row, raw, photo, share, crc in found:
            entry = Entry(cast(int, row), self._name(raw), cast(int, photo), generation)
            types = [type(value) for value in (row, raw, photo, share, crc)]
            whole = types == _TYPES and len(cast(bytes, share)) == 8 * self.dimension
            if not whole or checksum(scope, entry, cast(bytes, raw), cast(bytes, share)) != crc:
                raise StoreError(f"{self.database.path.name}: expected row {entry.row} as it was stored: it is damaged")
            entries.append(entry)
            parts.append(cast(bytes, share))
        return list(zip(entries, share_array(parts, self.dimension), strict=True))

    def remove(self, raw: bytes) -> int:
        """Remove an identity's photos, reservations, buckets and hashes in the log; return how many photos."""
        known = cast(
            list[tuple[int, int, int | None]],
            self.database.rows(
                "SELECT row, photo, r.generation FROM entry LEFT JOIN reservation r USING (row) WHERE identity = ?",
                (raw,),
                (int, int, int | None),
            ),
        )
        tag = identity_tag(adopt_log_secret(self.database), raw)
        queries = self.database.execute("DELETE FROM bucket WHERE tag = ?", (tag,))
        queries += self.database.execute("UPDATE query SET tag = NULL WHERE tag = ?", (tag,))
        if known:
            self.database.execute("DELETE FROM entry WHERE identity = ?", (raw,))
            self._raise_floor(max(photo for _, photo, _ in known))
        if known or queries:
            self.database.execute("UPDATE state SET erasing = 1")
        enrolled = [row for row, _, reserved in known if reserved is None]
        for row in enrolled:
            self._log(row, False)
        return len(enrolled)

    def remove_photos(self, raw: bytes, photos: Sequence[int]) -> int:
        """Remove some of an identity's photos, and the identity with its last photo; return how many photos."""
        found = self.database.rows(
            "SELECT row, photo FROM entry WHERE identity = ? AND row NOT IN (SELECT row FROM reservation)", (raw,)
        )
        enrolled = {cast(int, photo): cast(int, row) for row, photo in found}
        gone = sorted(enrolled.keys() & set(photos))
        if len(gone) == len(enrolled):
            return self.remove(raw)
        for photo in gone:
            self.database.execute("DELETE FROM entry WHERE row = ?", (enrolled[photo],))
            self._raise_floor(photo)
            self._log(enrolled[photo], False)
        if gone:
            self.database.execute("UPDATE state SET erasing = 1")
        return len(gone)

    def forget_reservation(self, row: int, raw: bytes) -> None:
        """Remove the reservation of this row and identity, if there is one."""
        found = self.database.rows(
            "SELECT photo FROM reservation JOIN entry USING (row) WHERE row = ? AND identity = ?", (row, raw), (int,)
        )
        if found:
            self._raise_floor(cast(int, found[0][0]))
            self.database.execute("DELETE FROM entry WHERE row = ?", (row,))
            self.database.execute("UPDATE state SET erasing = 1")

    def forget_reservations(self) -> None:
        """Remove all reservations, in a transaction of its own."""
        reserved = "(SELECT row FROM reservation)"
        if self.database.number("SELECT count(*) FROM reservation"):
            with self.database.writing():
                self._raise_floor(self.database.number(f"SELECT max(photo) FROM entry WHERE row IN {reserved}"))  # noqa: S608
                self.database.execute(f"DELETE FROM entry WHERE row IN {reserved}")  # noqa: S608
                self.database.execute("UPDATE state SET erasing = 1")

    def erase(self) -> bool:
        """Rewrite the file and empty its write-ahead log; return False if a reader still needs that log.

        A deletion overwrites the deleted bytes (secure_delete). But SQLite may have left older copies of rows that it
        moved between pages.
        """
        self.database.execute("VACUUM")
        if not self.database.truncate_log():
            return False
        with self.database.writing():
            self.database.execute("UPDATE state SET erasing = 0")
        return True

    def last_change(self) -> int:
        """Return the number of the last change."""
        return self.database.number("SELECT max(number) FROM change")

    def changes(self, number: int) -> Changes:
        """Return the changes after the change `number`."""
        with self.database.reading():
            last = self.last_change()
            if not 0 <= number <= last:
                raise StoreError(
                    f"{self.database.path.name}: expected a change's number of 0 to {last}, got {number}:"
                    " of another file's history"
                )
            log = np.array(
                self.database.rows("SELECT row, added FROM change WHERE number > ?", (number,), (int, int)),
                dtype=np.int64,
            ).reshape(-1, 2)
            generation = self.generation()
        added, removed = (log[log[:, 1] == flag, 0] for flag in (1, 0))
        return Changes(last, np.setdiff1d(added, removed), np.setdiff1d(removed, added), generation)

    def listing(self, number: int) -> tuple[int, int, NDArray[np.int64], list[Entry]]:
        """Return the last change, the generation, the rows removed and the entries added since; all of one state."""
        with self.database.reading():
            changes = self.changes(number)
            found = self.database.rows(
                "SELECT row, identity, photo FROM entry WHERE row NOT IN (SELECT row FROM reservation)"
                " AND row IN (SELECT row FROM change WHERE number > ? AND added = 1) ORDER BY row",
                (number,),
                (int, bytes, int),
            )
        entries = [
            Entry(cast(int, row), self._name(raw), cast(int, photo), changes.generation) for row, raw, photo in found
        ]
        return changes.number, changes.generation, changes.removed, entries

    def _entry(self, identity: str, raw: bytes, generation: int) -> Entry:
        photo = 1 + self.database.number(
            "SELECT max(photo_floor, ifnull((SELECT max(photo) FROM entry WHERE identity = ?), 0)) FROM state", (raw,)
        )
        row = self.database.insert("INSERT INTO entry (identity, photo) VALUES (?, ?)", (raw, photo))
        return Entry(row, identity, photo, generation)

    def _name(self, raw: object) -> str:
        try:
            return identity_text(raw)
        except StoreError as error:
            raise StoreError(f"{self.database.path.name}: {error}") from error

    def _raise_floor(self, photo: int) -> None:
        self.database.execute("UPDATE state SET photo_floor = max(photo_floor, ?)", (photo,))

    def _log(self, row: int, added: bool) -> None:
        self.database.insert("INSERT INTO change (row, added) VALUES (?, ?)", (row, int(added)))
