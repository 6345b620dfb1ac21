"""What a party keeps of an index of private templates: opened differences and shares of norms, on disk, mapped.

An index is built with a mask of its own: B is expanded from the party's seed and from the build's public random
number, which the server draws whenever an index begins. So no row of B, however often an index is built anew, hides
two templates, and parties whose indexes are of different builds see it. A template's place is its row of B: the order
in which it was indexed, whatever its row in the store.

Everything here can be made again; losing it costs time. Rows reach the disk before the list names them. A removed
template's place is overwritten, and not used again.
"""

import hashlib
import hmac
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.correlations import FixedMask
from protocols.correlations.fixed_mask import MAX_ROWS
from protocols.errors import ParameterError
from protocols.identification.private_templates import TemplateIndex
from protocols.ring import RingArray

__all__ = ["BUILD_BYTES", "IndexFile"]

BUILD_BYTES = 16

Rows = NDArray[np.int64]


class IndexFile:
    """The index of one gallery, as one party keeps it.

    Args:
        folder: made if there is none, for its owner alone; each (gallery, seed) has files of its own in it.
        lineage: of the gallery's store; rows of another one are other templates.
        seed: this party's, 32 bytes: of its share of the mask of every build.
        dimension: of the templates.
    """

    def __init__(self, folder: Path, lineage: bytes, seed: bytes, dimension: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.dimension, self._seed, self._lineage = dimension, seed, lineage
        name = hashlib.sha256(b"hybridface index" + lineage + seed).hexdigest()[:24]
        self._opened, self._norms, self._list = (folder / f"{name}.{what}" for what in ("opened", "norms", "rows.npz"))
        self.build, self.indexed = self._read_list()
        """The build's number, and the store's row at each place; 0 where a template was removed."""

    @property
    def mask(self) -> FixedMask:
        """This party's share of the build's mask."""
        derived = hmac.digest(self._seed, b"hybridface build 1\n" + self.build, "sha256")
        return FixedMask((derived,), self.dimension)

    @property
    def digest(self) -> str:
        """Of what is indexed: equal on both sides, or both begin again."""
        return hashlib.sha256(self._lineage + self.build + self.indexed.tobytes()).hexdigest()

    def clear(self, build: bytes) -> None:
        """Begin again, with a new build."""
        if len(build) != BUILD_BYTES:
            raise ParameterError(f"expected a build's number of {BUILD_BYTES} bytes, got {len(build)}")
        self.delete()
        self.build = build
        self._write_list(np.empty(0, dtype=np.int64))

    def delete(self) -> None:
        """Remove the files."""
        for path in (self._list, self._opened, self._norms):
            path.unlink(missing_ok=True)
        self.build, self.indexed = b"", np.empty(0, dtype=np.int64)

    def places_of(self, rows: Rows) -> Rows:
        """Return the places of the store's rows.

        Raises:
            ParameterError: one is not indexed.
        """
        order = np.argsort(self.indexed, kind="stable")
        found = np.searchsorted(self.indexed[order], rows)
        places = order[np.minimum(found, max(len(order) - 1, 0))] if len(order) else found
        if not len(order) or np.any(self.indexed[places] != rows):
            raise ParameterError("expected indexed rows, got others")
        return np.asarray(places)

    def next_places(self, count: int) -> Rows:
        """Return the places of so many templates that are indexed next."""
        start = len(self.indexed)
        if start + count > MAX_ROWS:
            raise ParameterError(f"expected at most {MAX_ROWS} places, got {start + count}")
        return np.arange(start, start + count)

    def write(self, rows: Rows, opened: RingArray, norms: RingArray) -> None:
        """Add templates at the next places: their rows in the store, D (n, d) and norms (n,)."""
        start = len(self.indexed)
        self._write_at(self._opened, start, opened)
        self._write_at(self._norms, start, norms[:, None])
        self._write_list(np.concatenate([self.indexed, rows]))

    def forget(self, rows: Rows) -> None:
        """Overwrite templates that are no longer in the store."""
        if not len(rows):
            return
        places = self.places_of(rows)
        for path, width in ((self._opened, self.dimension), (self._norms, 1)):
            mapped = np.memmap(path, np.uint64, "r+", shape=(len(self.indexed), width))
            mapped[places] = 0
            mapped.flush()
        indexed = self.indexed.copy()
        indexed[places] = 0
        self._write_list(indexed)

    def read(self) -> TemplateIndex:
        """Return the index, mapped from the files.

        Raises:
            ParameterError: nothing is indexed.
        """
        count = len(self.indexed)
        if not count:
            raise ParameterError("expected indexed templates, got none")
        opened = np.memmap(self._opened, np.uint64, "r", shape=(count, self.dimension))
        norms = np.memmap(self._norms, np.uint64, "r", shape=(count,))
        return TemplateIndex(self.mask, 0, opened, norms)

    def _write_at(self, path: Path, place: int, values: RingArray) -> None:
        """Write rows (n, any) from a place on."""
        with open(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b") as file:
            file.seek(8 * values.shape[1] * place)
            file.write(np.ascontiguousarray(values).data.cast("B"))
            file.flush()
            os.fsync(file.fileno())

    def _read_list(self) -> tuple[bytes, Rows]:
        """Return the build and the rows; none if the files do not hold them."""
        try:
            with np.load(self._list, allow_pickle=False) as arrays:
                build, rows = arrays["build"], arrays["rows"]
            sound = build.dtype == np.uint8 and build.shape == (BUILD_BYTES,) and rows.dtype == np.int64
            sound = sound and rows.ndim == 1 and not np.any(rows < 0)
            whole = not len(rows) or self._opened.stat().st_size >= 8 * self.dimension * len(rows)
            if sound and whole and (not len(rows) or self._norms.stat().st_size >= 8 * len(rows)):
                return build.tobytes(), rows
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        return b"", np.empty(0, dtype=np.int64)

    def _write_list(self, rows: Rows) -> None:
        temporary = self._list.with_suffix(".part")
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            np.savez(file, build=np.frombuffer(self.build, dtype=np.uint8), rows=rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._list)
        folder = os.open(self._list.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.indexed = rows
