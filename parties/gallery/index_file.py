"""What a party keeps of an index of private templates: opened differences and shares of norms, on disk, mapped.

Everything here can be made again from templates and masks; losing it costs time. D is uniform noise, and so are shares
of norms. Rows are written and reach the disk before the list of indexed rows names them, so a crash leaves rows that
are indexed again, with the same result.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.correlations import FixedMask
from protocols.correlations.fixed_mask import MAX_ROWS
from protocols.errors import ParameterError
from protocols.identification.private_templates import TemplateIndex
from protocols.ring import RingArray

__all__ = ["IndexFile"]

Rows = NDArray[np.int64]


class IndexFile:
    """The index of one gallery, as one party keeps it.

    Args:
        folder: made if there is none, for its owner alone; each (gallery, mask) has files of its own in it.
        lineage: of the gallery's store; rows of another one are other templates.
        mask: this party's share of the fixed mask.
    """

    def __init__(self, folder: Path, lineage: bytes, mask: FixedMask) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.mask, self._lineage = mask, lineage
        name = hashlib.sha256(b"hybridface index" + lineage + b"".join(mask.seeds)).hexdigest()[:24]
        self._opened, self._norms, self._list = (folder / f"{name}.{what}" for what in ("opened", "norms", "rows.npy"))
        self.indexed: Rows = self._read_list()
        """The rows that are indexed, ascending. The files begin at the first."""

    @property
    def digest(self) -> str:
        """Of what is indexed: equal on both sides, or both begin again."""
        return hashlib.sha256(self._lineage + self.indexed.tobytes()).hexdigest()

    @property
    def span(self) -> int:
        """From the first indexed row to the last."""
        return int(self.indexed[-1] - self.indexed[0]) + 1 if self.indexed.size else 0

    def clear(self) -> None:
        """Begin again."""
        self._write_list(np.empty(0, dtype=np.int64))

    def write(self, rows: Rows, opened: RingArray, norms: RingArray) -> None:
        """Add rows: D (n, d) and norms (n,)."""
        first = int(self.indexed[0]) if self.indexed.size else int(rows[0])
        last = int(self.indexed[-1]) if self.indexed.size else first - 1
        if rows[0] < first or max(int(rows[-1]), last) - first >= MAX_ROWS:
            raise ParameterError(f"expected rows from {first}, at most {MAX_ROWS}, got {rows[0]} to {rows[-1]}")
        for path, values in ((self._opened, opened), (self._norms, norms[:, None])):
            self._write_rows(path, rows - first, values)
        self._write_list(np.concatenate([self.indexed, rows]) if rows[0] > last else np.union1d(self.indexed, rows))

    def read(self) -> TemplateIndex:
        """Return the index, mapped from the files.

        Raises:
            ParameterError: nothing is indexed.
        """
        if not self.indexed.size:
            raise ParameterError("expected indexed templates, got none")
        first, rows = int(self.indexed[0]), self.span
        opened = np.memmap(self._opened, np.uint64, "r", shape=(rows, self.mask.dimension))
        norms = np.memmap(self._norms, np.uint64, "r", shape=(rows,))
        return TemplateIndex(self.mask, first, opened, norms)

    def _write_rows(self, path: Path, rows: Rows, values: RingArray) -> None:
        """Write rows (n, any) to their places; the file grows, and holds zeros where nothing was written."""
        with open(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b") as file:
            start = 0
            for first, end in _runs_of(rows).tolist():
                file.seek(8 * values.shape[1] * first)
                file.write(np.ascontiguousarray(values[start : start + end - first]).data.cast("B"))
                start += end - first
            file.flush()
            os.fsync(file.fileno())

    def _read_list(self) -> Rows:
        """Return the indexed rows; none if the files do not hold them."""
        try:
            runs = np.load(self._list, allow_pickle=False)
            sound = runs.dtype == np.int64 and runs.ndim == 2 and not np.any(np.diff(runs.reshape(-1), prepend=-1) < 1)
            size = int(runs[-1, 1] - runs[0, 0]) if runs.size else 0
            whole = self._opened.stat().st_size >= 8 * self.mask.dimension * size
            if sound and whole and self._norms.stat().st_size >= 8 * size:
                return _rows_of(runs)
        except (OSError, ValueError, IndexError, EOFError):
            pass
        return np.empty(0, dtype=np.int64)

    def _write_list(self, rows: Rows) -> None:
        temporary = self._list.with_suffix(".part")
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            np.save(file, _runs_of(rows))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._list)
        self.indexed = rows


def _runs_of(rows: Rows) -> Rows:
    """Return ascending rows as runs (k, 2): the first row of each, and the first one after it."""
    gaps = np.flatnonzero(np.diff(rows) != 1) + 1
    firsts, lasts = np.concatenate([[0], gaps]), np.concatenate([gaps, [len(rows)]]) - 1
    return np.stack([rows[firsts], rows[lasts] + 1], axis=1) if rows.size else np.empty((0, 2), dtype=np.int64)


def _rows_of(runs: Rows) -> Rows:
    """Return the rows of runs."""
    sizes = runs[:, 1] - runs[:, 0]
    return np.asarray(np.arange(sizes.sum()) + np.repeat(runs[:, 0] - (np.cumsum(sizes) - sizes), sizes))
