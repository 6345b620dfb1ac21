"""Keep a party's side of an index of private templates on disk: opened differences and shares of norms.

**Build.** Each build of an index has a mask B of its own. A party expands its share of B from its seed and the build's
public random number. Both parties draw that number together whenever an index begins. So no row of B hides two
templates, however often an index is built anew. Parties whose indexes are of different builds notice it.

**Places.** A template's place is its row of B: the order in which it was indexed, whatever its row in the store. A
place counts as *used* before the parties open anything under it. The number of used places reaches the disk first, on
both sides, and is part of the digest that the sides compare. A crash may leave used places without templates. If the
sides still agree, they go on after these places, whose rows stay zero. If they do not, they begin a new build. So two
templates never meet at one place, whatever crashes when.

**Damage.** Both sides can make the index again, so losing it costs only time. Rows reach the disk before the head
counts them. Each row has a checksum, which is compared when the index is opened. A damaged index counts as none. A
removed template's place is overwritten, and not used again.

**Sessions** of several processes may use one index. To change it, a session holds its lock alone; to read it, with
others. A session that opened the index before another one changed it notices when it takes the lock again.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import IndexChangedError
from parties.gallery.index.folder import IndexFolder, group_of
from parties.machine.durable import naming, reach_disk, write_durably
from parties.machine.plain_files import read_plain
from parties.machine.walks import changed_at, entries_of
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.kernels import multiply_rows
from protocols.arithmetic.randomness import KEY_BYTES, keystream
from protocols.correlations import FixedMask
from protocols.correlations.fixed_mask import MAX_ROWS
from protocols.errors import ParameterError
from protocols.matching.private_templates import TemplateIndex

__all__ = ["BUILD_BYTES", "IndexFile"]

BUILD_BYTES = 16

_MAX_HEAD_BYTES = 4096
_APPENDING = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
_CHECKED = 1 << 13
"""Rows whose checksums are compared at a time."""

Rows = NDArray[np.int64]


class IndexFile:
    """One party's index of one gallery, or of one shard of it.

    Args:
        folder: of the gallery's indexes. Its lineage counts: rows of a store of another lineage are other templates.
        seed: this party's seed, 32 bytes, for its share of every build's mask.
        dimension: of the templates.
        name: tells several indexes of one seed apart.
        shard: number of the shard, and of its lock.
        group: names the party's indexes that belong together; by default `group_of(seed)`.
    """

    def __init__(
        self,
        folder: IndexFolder,
        seed: bytes,
        dimension: int,
        name: bytes = b"",
        shard: int = 0,
        group: str | None = None,
    ) -> None:
        self.dimension, self._seed, self._folder, self._shard = dimension, seed, folder, shard
        base = hashlib.sha256(b"hybridface index 3" + folder.lineage + seed).hexdigest()[:24]
        self._base = folder.stem(group_of(seed) if group is None else group, base)
        self.stem = f"{self._base}-{hashlib.sha256(name).hexdigest()[:16]}"
        self.build, self.used, self.indexed = b"", 0, _none()
        self._change = -1
        self._head = folder.path / f"{self.stem}.head"
        self._columns = {
            column: (folder.path / f"{self.stem}.{column}", width)
            for column, width in (("opened", dimension), ("norms", 1), ("rows", 1), ("checks", 1))
        }
        self._load()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the index alone, as it is now on disk.

        Raises:
            StoreError: another session holds it for too long.
        """
        with self._folder.locked(self._shard):
            self.refresh()
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the index with other readers.

        Raises:
            IndexChangedError: another process has changed the index since it was opened.
            StoreError: as for `writing`.
        """
        with self._folder.locked(self._shard, shared=True):
            if not self._is_current():
                raise IndexChangedError("expected the index as it was opened, but it has changed: index again")
            yield

    def refresh(self) -> None:
        """Load the index as it is now on disk. The caller holds the lock."""
        if not self._is_current():
            self._load()

    @property
    def mask(self) -> FixedMask:
        """This party's share of the build's mask."""
        derived = hmac.digest(self._seed, b"hybridface build 1\n" + self.build, "sha256")
        return FixedMask((derived,), self.dimension)

    @property
    def digest(self) -> str:
        """The digest of the indexed rows and the build. If it differs between the sides, both begin again."""
        state = self.build + self.used.to_bytes(8, "little") + self.indexed.tobytes()
        return hashlib.sha256(b"hybridface index digest 2" + self._folder.lineage + state).hexdigest()

    def clear(self, build: bytes) -> None:
        """Begin an empty index with a new build."""
        if len(build) != BUILD_BYTES:
            raise ParameterError(f"expected a build's number of {BUILD_BYTES} bytes, got {len(build)}")
        self.delete()
        self.build = build
        self._write_head()

    def delete(self) -> None:
        """Remove the files, except the lock's."""
        for path in (self._head, *(path for path, _ in self._columns.values())):
            path.unlink(missing_ok=True)
        self._known = b""
        self._set()

    def forget_others(self, most: int) -> None:
        """Remove this gallery and seed's indexes with other names, except the `most` that were changed last."""
        files = entries_of(self._folder.path)
        heads = [path for path in files if path.name.startswith(f"{self._base}-") and path.suffix == ".head"]
        others = sorted((path for path in heads if path != self._head), key=changed_at, reverse=True)
        for head in others[most:]:
            for path in files:
                if path.name.startswith(f"{head.stem}."):
                    path.unlink(missing_ok=True)

    def places_of(self, rows: Rows) -> Rows:
        """Return the places of rows of the store.

        Raises:
            ParameterError: a row is not indexed.
        """
        order = np.argsort(self.indexed, kind="stable")
        found = np.searchsorted(self.indexed[order], rows)
        places = order[np.minimum(found, max(len(order) - 1, 0))] if len(order) else found
        if len(rows) and (not len(order) or np.any(self.indexed[places] != rows)):
            raise ParameterError("expected indexed rows, got others")
        return np.asarray(places)

    def take_places(self, count: int) -> Rows:
        """Return the places of the next `count` templates, after recording on disk that these places are used.

        Whatever becomes of the templates, no others get these places.

        Raises:
            ParameterError: the index has too few places left.
        """
        start = self.used
        if start + count > MAX_ROWS:
            raise ParameterError(f"expected at most {MAX_ROWS} places, got {start + count}")
        self.used = start + count
        self._write_head()
        return np.arange(start, self.used)

    def write(self, places: Rows, rows: Rows, opened: RingArray, norms: RingArray) -> None:
        """Add templates at the places that were taken last: their rows in the store, D (n, d) and norms (n,)."""
        gap = int(places[0]) - len(self.indexed)
        if gap < 0 or places[-1] != self.used - 1:
            raise ParameterError(f"expected the places that were taken last, up to {self.used}, got {places[-1] + 1}")
        values = {"opened": opened, "norms": norms, "rows": rows, "checks": _checks(opened, norms)}
        for name, array in values.items():
            words = array.view(np.uint64)
            unused = np.zeros((gap, *words.shape[1:]), dtype=np.uint64)  # places whose templates were never written
            self._append(name, np.concatenate([unused, words]))
        self.indexed = np.concatenate([self.indexed, np.zeros(gap, dtype=np.int64), rows])
        self._write_head()

    def forget(self, rows: Rows) -> None:
        """Overwrite templates that are no longer in the store."""
        if not len(rows):
            return
        places = self.places_of(rows)
        for name in ("opened", "norms", "checks", "rows"):  # rows last: a crash before leaves them to forget again
            path, width = self._columns[name]
            column = np.memmap(path, np.uint64, "r+", shape=(len(self.indexed), width))
            column[places] = 0
            column.flush()
        self.indexed = self.indexed.copy()
        self.indexed[places] = 0
        self._write_head()

    def read(self) -> TemplateIndex:
        """Return the index, mapped from the files.

        Raises:
            ParameterError: nothing is indexed.
        """
        count = len(self.indexed)
        if not count:
            raise ParameterError("expected indexed templates, got none")
        return TemplateIndex(self.mask, 0, self._mapped("opened", count), self._mapped("norms", count)[:, 0])

    def _mapped(self, name: str, count: int) -> RingArray:
        path, width = self._columns[name]
        return np.memmap(path, np.uint64, "r", shape=(count, width))

    def _append(self, name: str, values: RingArray) -> None:
        """Write rows after those that the head counts."""
        path, width = self._columns[name]
        with naming(path), open(os.open(path, _APPENDING, 0o600), "r+b") as file:
            file.seek(8 * width * len(self.indexed))
            file.write(np.ascontiguousarray(values).data.cast("B"))
            reach_disk(file)

    def _set(self, build: bytes = b"", indexed: Rows | None = None, used: int = 0) -> None:
        self.build, self.used, self.indexed = build, used, _none() if indexed is None else indexed

    def _load(self) -> None:
        """Load the build and the rows from the files; an empty index if the files are damaged."""
        self._known = self._head_bytes()
        self._set()
        try:
            match json.loads(self._known or b"{}"):
                case {"build": str(text), "count": int(count), "used": int(used), "change": int(change)} if (
                    bool not in map(type, (count, used, change)) and 0 <= count <= used <= MAX_ROWS
                ):
                    self._change = change
                    rows, build = self._sound_rows(count), bytes.fromhex(text)
                    if rows is not None and len(build) == BUILD_BYTES:
                        self._set(build, rows, used)
        except (OSError, ValueError, RecursionError):
            return

    def _sound_rows(self, count: int) -> Rows | None:
        """Return the rows; None if a file is too short or a checksum differs."""
        if not count:
            return np.empty(0, dtype=np.int64)
        if any(path.stat().st_size < 8 * width * count for path, width in self._columns.values()):
            return None
        rows = np.array(self._mapped("rows", count)[:, 0]).view(np.int64)
        opened, norms, checks = (self._mapped(name, count) for name in ("opened", "norms", "checks"))
        for start in range(0, count, _CHECKED):
            part = slice(start, start + _CHECKED)
            if not np.array_equal(_checks(opened[part], norms[part, 0]), checks[part, 0]):
                return None
        return None if np.any(rows < 0) else rows

    def _is_current(self) -> bool:
        return self._head_bytes() == self._known

    def _head_bytes(self) -> bytes:
        try:
            return read_plain(self._head, _MAX_HEAD_BYTES)
        except OSError:  # also if it is not a file any more: then there is no index, and the sides make a new one
            return b""

    def _write_head(self) -> None:
        """Write the head: what the files hold, and a new number, by which other sessions notice the change."""
        self._change += 1
        counts = {"count": len(self.indexed), "used": self.used, "change": self._change}
        head = json.dumps({"build": self.build.hex(), **counts}).encode()
        write_durably(self._head, head)
        self._known = head


def _none() -> Rows:
    return np.empty(0, dtype=np.int64)


def _checks(opened: RingArray, norms: RingArray) -> RingArray:
    """Return a checksum of each row: a sum modulo 2^64 with fixed odd factors. It detects any one changed word."""
    factors = keystream(bytes(KEY_BYTES), bytes(16), opened.shape[1] + 1) | np.uint64(1)
    sums: RingArray = norms * factors[-1]
    multiply_rows(np.ascontiguousarray(opened), factors[:-1], sums)
    return sums
