"""Arrays on disk that several processes fill row by row, and that survive when the processes are killed.

A row counts as done only if a file says so. That file is renamed into place after the row has been written out. The
next run makes the rows that are not done. The data comes from faces, so only the folder's owner can enter it (mode
0700).
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from hybridface.errors import RunError
from hybridface.signals import Interrupted, cleaning_up, unheard
from parties.machine.durable import PUBLIC, replaced
from parties.machine.locks import locked
from parties.machine.plain_files import open_plain
from protocols.errors import ParameterError

__all__ = ["RowField", "Rows", "Skipped", "Work", "fill", "private_folder"]

_DONE = "done"
_SAVE_SECONDS = 2.0

Values = Mapping[str, Any]
"""One row: a value or an array for every field."""

Work = Callable[[Any], "Values | Skipped"]
"""A function that makes a row from an item. It can be pickled; its settings are its attributes."""


@dataclass(frozen=True)
class RowField:
    """One array of a row: its dtype and shape."""

    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """The reason why a row cannot be made, in place of the row."""

    reason: str


class Rows:
    """Arrays of `count` rows in a folder, mapped from disk.

    Args:
        folder: made if it does not exist; rows that are done in it are kept if the fields are the same.
        count: number of rows.
        fields: the fields by name; a field's file has the same name.
    """

    def __init__(self, folder: Path, count: int, fields: Mapping[str, RowField]) -> None:
        self.folder, self.count, self.fields = private_folder(folder), count, dict(fields)
        self.done: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._arrays: dict[str, NDArray[Any]] = {}
        self._open("r")

    def missing(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the given rows that are not done."""
        wanted = np.asarray(rows, dtype=np.int64)
        return wanted[~self.done[wanted]]

    def __getitem__(self, field: str) -> NDArray[Any]:
        """Return an array (count, ...), read-only; rows that are not done hold arbitrary values."""
        if field in self._arrays:
            return self._arrays[field]
        kind = self.fields[field]
        return np.broadcast_to(np.zeros((), kind.dtype), (self.count, *kind.shape))

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[int, Values], None]]:
        """Give a function that sets a row; save the rows every few seconds, and at the end whatever happens.

        Raises:
            ParameterError: another process is filling these rows.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.folder, "the rows", seconds=0.0))
            except TimeoutError as error:
                raise ParameterError(
                    f"expected one run at a time to fill {self.folder}, but another one is running"
                ) from error
            self._open("r+")
            saved = time.monotonic()

            def put(row: int, values: Values) -> None:
                nonlocal saved
                for name, array in self._arrays.items():
                    array[row] = values[name]
                self.done[row] = True
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()

            try:
                yield put
            finally:
                self._save()
                self._open("r")

    def forget(self) -> None:
        """Make all rows again next time: the data they come from may have changed by then."""
        self._path(_DONE).unlink(missing_ok=True)

    def _open(self, mode: Any) -> None:
        """Map the arrays; for writing, make new ones if these cannot be used."""
        try:
            with open_plain(self._path(_DONE)) as file:
                done = np.load(file, allow_pickle=False)
            arrays = {name: self._mapped(name, mode) for name in self.fields}
            if done.shape != (self.count,) or done.dtype != np.bool_:
                raise ValueError(f"expected {self.count} rows, got {done.shape}")
        except (OSError, ValueError, EOFError):
            if mode == "r":
                return
            self._path(_DONE).unlink(missing_ok=True)
            done, arrays = (
                np.zeros(self.count, dtype=np.bool_),
                {name: self._mapped(name, "w+") for name in self.fields},
            )
        self.done, self._arrays = done, arrays

    def _mapped(self, name: str, mode: Any) -> NDArray[Any]:
        field = self.fields[name]
        expected = (self.count, *field.shape)
        if mode == "w+":
            self._path(name).unlink(missing_ok=True)  # it may be a pipe, which nobody reads
            return np.lib.format.open_memmap(self._path(name), "w+", np.dtype(field.dtype), expected)
        open_plain(self._path(name)).close()  # of anything but a file nothing is read
        array = np.load(self._path(name), mmap_mode=mode, allow_pickle=False)
        if array.shape != expected or array.dtype != np.dtype(field.dtype):
            raise ValueError(f"expected {field}, got {array.dtype} {array.shape}")
        return array

    def _save(self) -> None:
        for array in self._arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        with replaced(self._path(_DONE), PUBLIC) as file:
            np.save(file, self.done)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def fill(
    rows: Rows,
    wanted: Sequence[int] | NDArray[np.int64],
    item: Callable[[int], Any],
    work: Work,
    workers: int,
    title: str,
    shown: bool,
    on_skipped: Callable[[int, str], None] | None = None,
) -> None:
    """Make the wanted rows that are not done, in order.

    Args:
        item: returns the item from which a row is made.
        work: makes the row; in processes of its own if there are several workers.
        title, shown: title of the progress bar on standard error, and whether there is a bar.
        on_skipped: called with a row for which `work` returns `Skipped`, and with the reason; the row stays missing.

    Raises:
        RunError: a worker process has died. Also whatever `work` raises. Rows that were done before stay.
    """
    missing = rows.missing(wanted)
    if not len(missing):
        return
    results = _results(work, map(item, missing.tolist()), min(workers, len(missing)))
    with rows.writing() as put, contextlib.closing(results):
        before = len(wanted) - len(missing)
        shown_results = track(
            results, title, len(wanted), before, console=Console(stderr=True), disable=not shown, transient=True
        )
        for row, values in zip(missing.tolist(), shown_results, strict=True):
            if not isinstance(values, Skipped):
                put(row, values)
            elif on_skipped:
                on_skipped(row, values.reason)


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner can enter; restrict it to its owner if it exists already.

    Raises:
        ParameterError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise ParameterError(f"expected a folder to write to, got {folder}: {error.strerror}") from error
    return folder


def _results(work: Work, items: Iterator[Any], workers: int) -> Generator[Values | Skipped]:
    """Yield the rows in order; only a few more are made ahead."""
    if workers == 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")
    with cleaning_up(), ProcessPoolExecutor(workers, context, _leave_with_parent) as pool:
        pending: deque[Future[Values | Skipped]] = deque()
        try:
            for item in items:
                with unheard():  # this process ends the workers that this call starts
                    pending.append(pool.submit(work, item))
                if len(pending) > 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except Interrupted:
            for process in multiprocessing.active_children():
                process.kill()  # otherwise the end would wait for their current rows
            raise
        except BrokenProcessPool as error:
            raise RunError("a worker process has died; run the command again to continue where it stopped") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _leave_with_parent() -> None:
    """Prepare a worker process: use one thread for arithmetic, and end when the parent is killed."""
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
