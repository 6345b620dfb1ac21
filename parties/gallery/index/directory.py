"""Keep the directory of a private gallery on both sides: rows, their identities, and the shard that searches each.

Identities are numbered in the order of their first rows. If several shards search the gallery, all photos of an
identity are in one shard. A hash of the number of the identity's first row chooses the shard. The client keeps its
directory between sessions, so that the server sends only changes.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.gallery.store.records import Entry
from parties.machine.arrays import read_arrays
from parties.machine.durable import write_durably
from parties.machine.plain_files import read_digested

__all__ = ["Directory", "Layout", "Part", "layout_of"]

Numbers = NDArray[np.int64]

_COLUMNS = ("rows", "photos", "owners")
_MAX_BYTES = 4 << 30
_DAMAGE = OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError
"""Exceptions that reading and parsing a file raise if it holds something else."""


@dataclass(frozen=True)
class Part:
    """The templates that one shard searches.

    Args:
        rows: int64 (n,), rows of the shard's first identity, then of its second, ....
        sizes: int64 (m,), number of photos of each identity.
        numbers: int64 (m,), numbers of the shard's identities in the whole gallery, ascending.
    """

    rows: Numbers
    sizes: Numbers
    numbers: Numbers


@dataclass(frozen=True)
class Directory:
    """Everybody who is enrolled.

    Args:
        change: number of the last change of the store that the directory includes.
        generation: of the client's key.
        rows, photos: int64 (n,), numbers of every photo, in the order of rows.
        owners: int64 (n,), each photo's identity, as a place in `identities`.
        identities: m, in the order of their first rows.
    """

    change: int = 0
    generation: int = 0
    rows: Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    photos: Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    owners: Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    identities: tuple[str, ...] = field(default=(), repr=False)

    def updated(self, change: int, generation: int, removed: Numbers, added: Sequence[Entry]) -> "Directory":
        """Return the directory after changes: without the rows `removed`, and with the entries `added`."""
        kept = ~np.isin(self.rows, removed)
        number_of = {name: number for number, name in enumerate(self.identities)}
        names = list(self.identities)
        for entry in added:
            if number_of.setdefault(entry.identity, len(names)) == len(names):
                names.append(entry.identity)
        columns = [(entry.row, entry.photo, number_of[entry.identity]) for entry in added]
        new = np.array(columns, dtype=np.int64).reshape(-1, 3).T
        rows, photos, owners = (
            np.concatenate([old[kept], more])
            for old, more in zip((self.rows, self.photos, self.owners), new, strict=True)
        )
        order = np.argsort(rows, kind="stable")
        rows, photos, owners = rows[order], photos[order], owners[order]
        known, first, inverse = np.unique(owners, return_index=True, return_inverse=True)
        by_first = np.argsort(first)
        rank = np.empty_like(by_first)
        rank[by_first] = np.arange(len(by_first))
        identities = tuple(names[number] for number in known[by_first].tolist())
        return Directory(change, generation, rows, photos, rank[inverse].astype(np.int64), identities)

    def entries(self, rows: Numbers) -> list[Entry]:
        """Return the entries of enrolled rows, in the order of `rows`."""
        places = np.searchsorted(self.rows, rows)
        found = zip(rows.tolist(), self.owners[places].tolist(), self.photos[places].tolist(), strict=True)
        return [Entry(row, self.identities[owner], photo, self.generation) for row, owner, photo in found]

    def parts(self, shards: int) -> list[Part]:
        """Return the part of each shard, for a gallery with `shards` shards."""
        order = np.lexsort((self.rows, self.owners))
        rows, owners = self.rows[order], self.owners[order]
        sizes = np.bincount(owners, minlength=len(self.identities)).astype(np.int64)
        first = rows[np.cumsum(sizes) - sizes]
        shard_of = _spread(first) % np.uint64(shards)
        result = []
        for shard in range(shards):
            mine = shard_of == shard
            result.append(Part(rows[mine[owners]], sizes[mine], np.flatnonzero(mine)))
        return result

    @property
    def digest(self) -> str:
        """The digest of the whole directory. If it differs between the sides, the client begins again."""
        digest = hashlib.sha256(b"hybridface directory 1\n%d %d\n" % (self.generation, len(self.rows)))
        for column in (self.rows, self.photos, self.owners):
            digest.update(column.tobytes())
        digest.update(_text(self.identities))
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a digest and the directory to a file that only its owner may read; completely or not at all."""
        content = io.BytesIO()
        columns = {name: getattr(self, name) for name in _COLUMNS}
        state = np.array([self.change, self.generation], dtype=np.int64)
        np.savez(content, state=state, text=np.frombuffer(_text(self.identities), dtype=np.uint8), **columns)
        write_durably(path, hashlib.sha256(content.getbuffer()).digest() + content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Directory":
        """Read a file that `save` wrote; return an empty directory if there is no file or it is damaged.

        This does not check whether the directory is this gallery's: comparing `digest` does.
        """
        try:
            content = read_digested(path, _MAX_BYTES)
            if content is not None:
                return cls._parsed(content)
        except _DAMAGE:
            pass
        return cls()

    @classmethod
    def _parsed(cls, content: bytes) -> "Directory":
        arrays = read_arrays(content)
        change, generation = arrays["state"].tolist()
        rows, photos, owners = (np.asarray(arrays[name], dtype=np.int64) for name in _COLUMNS)
        identities = json.loads(arrays["text"].tobytes())
        whole = isinstance(identities, list) and all(isinstance(name, str) for name in identities)
        whole = whole and rows.ndim == 1 and rows.shape == photos.shape == owners.shape
        if not whole or np.any((owners < 0) | (owners >= len(identities))):
            raise ValueError("expected columns that fit")
        return cls(int(change), int(generation), rows, photos, owners, tuple(identities))


def _spread(numbers: Numbers) -> NDArray[np.uint64]:
    """Return a fixed hash of each number (the finaliser of SplitMix64). It spreads any pattern of numbers evenly."""
    words = numbers.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def _text(identities: Sequence[str]) -> bytes:
    return json.dumps(identities, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Layout:
    """The order of templates in an identification.

    Args:
        identities: m, in the order of their first rows; empty on a side that must not know them.
        sizes: int64 (m,), number of photos of each identity.
        rows: int64 (n,), rows of the first identity, then of the second, ....
    """

    identities: tuple[str, ...] = field(repr=False)
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]


def layout_of(entries: Sequence[Entry]) -> Layout:
    """Return the layout of entries."""
    ordered = sorted(entries, key=lambda entry: entry.row)
    places: dict[str, list[int]] = {}
    for entry in ordered:
        places.setdefault(entry.identity, []).append(entry.row)
    sizes = np.array([len(rows) for rows in places.values()], dtype=np.int64)
    return Layout(tuple(places), sizes, np.array([row for rows in places.values() for row in rows], dtype=np.int64))
