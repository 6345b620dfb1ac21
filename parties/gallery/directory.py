"""Who is enrolled, as both sides of a private gallery know it: rows, whose they are, and which slice finds them.

Identities are numbered in the order of their first rows. A gallery that is searched in several slices ("shards") has
all photos of an identity in one of them, by the number of its first row. The client keeps its directory between
sessions, so that the server sends only what has changed.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.gallery.records import Entry

__all__ = ["Directory", "Part"]

Numbers = NDArray[np.int64]

_COLUMNS = ("rows", "photos", "owners")


@dataclass(frozen=True)
class Part:
    """The templates that one shard searches.

    Args:
        rows: int64 (n,), of its first identity, then of its second, ....
        sizes: int64 (m,), photos of each identity.
        numbers: int64 (m,), of its identities in the whole gallery, ascending.
    """

    rows: Numbers
    sizes: Numbers
    numbers: Numbers


@dataclass(frozen=True)
class Directory:
    """Everybody who is enrolled.

    Args:
        change: the number of the store's last change that it knows.
        generation: of the client's key.
        rows, photos: int64 (n,), of every photo, by row.
        owners: int64 (n,), whose photo it is, as a place in `identities`.
        identities: m, in the order of their first rows.
    """

    change: int = 0
    generation: int = 0
    rows: Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    photos: Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    owners: Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    identities: tuple[str, ...] = field(default=(), repr=False)

    def updated(self, change: int, generation: int, removed: Numbers, added: Sequence[Entry]) -> "Directory":
        """Return the directory after some changes: without the rows `removed`, and with the entries `added`."""
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
        """Return the entries of some rows, all of them enrolled, in the order asked for."""
        places = np.searchsorted(self.rows, rows)
        found = zip(rows.tolist(), self.owners[places].tolist(), self.photos[places].tolist(), strict=True)
        return [Entry(row, self.identities[owner], photo, self.generation) for row, owner, photo in found]

    def parts(self, shards: int) -> list[Part]:
        """Return what each of so many shards searches."""
        order = np.lexsort((self.rows, self.owners))
        rows, owners = self.rows[order], self.owners[order]
        sizes = np.bincount(owners, minlength=len(self.identities)).astype(np.int64)
        first = rows[np.cumsum(sizes) - sizes]
        result = []
        for shard in range(shards):
            mine = first % shards == shard
            result.append(Part(rows[mine[owners]], sizes[mine], np.flatnonzero(mine)))
        return result

    @property
    def digest(self) -> str:
        """Of all of it: equal on both sides, or the client begins again."""
        digest = hashlib.sha256(b"hybridface directory 1\n%d %d\n" % (self.generation, len(self.rows)))
        for column in (self.rows, self.photos, self.owners):
            digest.update(column.tobytes())
        digest.update(_text(self.identities))
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write it to a file, for its owner alone, whole or not at all."""
        content = io.BytesIO()
        columns = {name: getattr(self, name) for name in _COLUMNS}
        state = np.array([self.change, self.generation], dtype=np.int64)
        np.savez(content, state=state, text=np.frombuffer(_text(self.identities), dtype=np.uint8), **columns)
        temporary = path.with_suffix(".part")
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content.getbuffer())
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> "Directory":
        """Read what `save` wrote; an empty directory, if there is none or it is damaged.

        What is wrong in it all the same is found by the digest.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                change, generation = arrays["state"].tolist()
                rows, photos, owners = (np.asarray(arrays[name], dtype=np.int64) for name in _COLUMNS)
                identities = json.loads(arrays["text"].tobytes())
            whole = isinstance(identities, list) and all(isinstance(name, str) for name in identities)
            whole = whole and rows.ndim == 1 and rows.shape == photos.shape == owners.shape
            if whole and not np.any((owners < 0) | (owners >= len(identities))):
                return cls(int(change), int(generation), rows, photos, owners, tuple(identities))
        except (OSError, ValueError, KeyError, EOFError, TypeError, RecursionError, zipfile.BadZipFile):
            pass
        return cls()


def _text(identities: Sequence[str]) -> bytes:
    return json.dumps(identities, ensure_ascii=False).encode()
