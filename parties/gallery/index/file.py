"""What a party keeps of an index of private templates: opened differences and shares of norms, on disk, mapped.

An index is built with a mask of its own: B is expanded from the party's seed and from the build's public random
number, which both parties draw together whenever an index begins. So no row of B, however often an index is built anew,
hides two templates, and parties whose indexes are of different builds see it. A template's place is its row of B: the
order in which it was indexed, whatever its row in the store.

A place is *used* before anything is opened under it: how far the places are used reaches the disk first, on both sides,
and is part of the digest that they compare. After a crash in between, sides that agree go on behind those places, whose
rows stay zero; sides that do not begin a new build. So two templates never meet at one place, whatever crashes when.

Everything here can be made again; losing it costs time. Rows reach the disk before the head counts them, and each has a
checksum, which is compared when the index is opened: what is damaged is no index. A removed template's place is
overwritten, and not used again.

Sessions of several processes may use one index: to change it they take its lock alone, to read it with each other. Who
opened it before somebody changed it finds that out when it takes the lock again.
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
    """The index of one gallery, or of one slice of it, as one party keeps it.

    Args:
        folder: of the gallery's indexes; rows of a store of another lineage are other templates.
        seed: this party's, 32 bytes: of its share of the mask of every build.
        dimension: of the templates.
        name: tells several indexes of one seed apart.
        shard: which slice it is: the number of its lock.
        group: of the party's indexes, that go together; the seed's if left out.
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
            StoreError: others hold it for too long.
        """
        with self._folder.locked(self._shard):
            self.refresh()
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the index with other readers.

        Raises:
            IndexChangedError: another process has changed it since it was opened. StoreError: as for `writing`.
        """
        with self._folder.locked(self._shard, shared=True):
            if not self._is_current():
                raise IndexChangedError("expected the index as it was opened, but it has changed: index again")
            yield

    def refresh(self) -> None:
        """Take the index as it is now on disk; the caller holds the lock."""
        if not self._is_current():
            self._load()

    @property
    def mask(self) -> FixedMask:
        """This party's share of the build's mask."""
        derived = hmac.digest(self._seed, b"hybridface build 1\n" + self.build, "sha256")
        return FixedMask((derived,), self.dimension)

    @property
    def digest(self) -> str:
        """Of what is indexed: equal on both sides, or both begin again."""
        state = self.build + self.used.to_bytes(8, "little") + self.indexed.tobytes()
        return hashlib.sha256(b"hybridface index digest 2" + self._folder.lineage + state).hexdigest()

    def clear(self, build: bytes) -> None:
        """Begin again, with a new build."""
        if len(build) != BUILD_BYTES:
            raise ParameterError(f"expected a build's number of {BUILD_BYTES} bytes, got {len(build)}")
        self.delete()
        self.build = build
        self._write_head()

    def delete(self) -> None:
        """Remove the files, but for the lock's."""
        for path in (self._head, *(path for path, _ in self._columns.values())):
            path.unlink(missing_ok=True)
        self._known = b""
        self._set()

    def forget_others(self, most: int) -> None:
        """Remove the indexes of this gallery and seed with other names, but for the `most` that were changed last."""
        files = entries_of(self._folder.path)
        heads = [path for path in files if path.name.startswith(f"{self._base}-") and path.suffix == ".head"]
        others = sorted((path for path in heads if path != self._head), key=changed_at, reverse=True)
        for head in others[most:]:
            for path in files:
                if path.name.startswith(f"{head.stem}."):
                    path.unlink(missing_ok=True)

    def places_of(self, rows: Rows) -> Rows:
        """Return the places of the store's rows.

        Raises:
            ParameterError: one is not indexed.
        """
        order = np.argsort(self.indexed, kind="stable")
        found = np.searchsorted(self.indexed[order], rows)
        places = order[np.minimum(found, max(len(order) - 1, 0))] if len(order) else found
        if len(rows) and (not len(order) or np.any(self.indexed[places] != rows)):
            raise ParameterError("expected indexed rows, got others")
        return np.asarray(places)

    def take_places(self, count: int) -> Rows:
        """Return the places of so many templates that are indexed next; that they are used reaches the disk first.

        Whatever becomes of the templates, no other ones get these places.

        Raises:
            ParameterError: so many places there are not.
        """
        start = self.used
        if start + count > MAX_ROWS:
            raise ParameterError(f"expected at most {MAX_ROWS} places, got {start + count}")
        self.used = start + count
        self._write_head()
        return np.arange(start, self.used)

    def write(self, places: Rows, rows: Rows, opened: RingArray, norms: RingArray) -> None:
        """Add templates at places that were taken last: their rows in the store, D (n, d) and norms (n,)."""
        gap = int(places[0]) - len(self.indexed)
        if gap < 0 or places[-1] != self.used - 1:
            raise ParameterError(f"expected the places that were taken last, up to {self.used}, got {places[-1] + 1}")
        values = {"opened": opened, "norms": norms, "rows": rows, "checks": _checks(opened, norms)}
        for name, array in values.items():
            words = array.view(np.uint64)
            unused = np.zeros((gap, *words.shape[1:]), dtype=np.uint64)  # of places whose templates were never written
            self._append(name, np.concatenate([unused, words]))
        self.indexed = np.concatenate([self.indexed, np.zeros(gap, dtype=np.int64), rows])
        self._write_head()

    def forget(self, rows: Rows) -> None:
        """Overwrite templates that are no longer in the store."""
        if not len(rows):
            return
        places = self.places_of(rows)
        for name in ("opened", "norms", "checks", "rows"):  # last: until then they are known, and forgotten again
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
        """Write rows behind those that the head counts."""
        path, width = self._columns[name]
        with naming(path), open(os.open(path, _APPENDING, 0o600), "r+b") as file:
            file.seek(8 * width * len(self.indexed))
            file.write(np.ascontiguousarray(values).data.cast("B"))
            reach_disk(file)

    def _set(self, build: bytes = b"", indexed: Rows | None = None, used: int = 0) -> None:
        self.build, self.used, self.indexed = build, used, _none() if indexed is None else indexed

    def _load(self) -> None:
        """Take the build and the rows from the files; none if these are not whole."""
        self._known = self._head_bytes()
        self._set()
        try:
            match json.loads(self._known or b"{}"):
                case {"build": str(text), "count": int(count), "used": int(used), "change": int(change)} if (
                    0 <= count <= used <= MAX_ROWS
                ):
                    self._change = change
                    rows, build = self._sound_rows(count), bytes.fromhex(text)
                    if rows is not None and len(build) == BUILD_BYTES:
                        self._set(build, rows, used)
        except (OSError, ValueError, RecursionError):
            return

    def _sound_rows(self, count: int) -> Rows | None:
        """Return the rows, if no file is too short and every row has its checksum."""
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
        except OSError:  # also where it is no file any more: then there is no index, and one is made anew
            return b""

    def _write_head(self) -> None:
        """Count what the files hold; a new number with every change, so that others see that there was one."""
        self._change += 1
        counts = {"count": len(self.indexed), "used": self.used, "change": self._change}
        head = json.dumps({"build": self.build.hex(), **counts}).encode()
        write_durably(self._head, head)
        self._known = head


def _none() -> Rows:
    return np.empty(0, dtype=np.int64)


def _checks(opened: RingArray, norms: RingArray) -> RingArray:
    """Return a checksum of each row: a sum modulo 2^64 with fixed odd factors, which sees any one changed word."""
    factors = keystream(bytes(KEY_BYTES), bytes(16), opened.shape[1] + 1) | np.uint64(1)
    sums: RingArray = norms * factors[-1]
    multiply_rows(np.ascontiguousarray(opened), factors[:-1], sums)
    return sums
