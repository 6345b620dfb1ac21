"""Keep a pool of prepared runs. A session fills it in parts, on request also in the background.

A preparation is the offline phase of one run: correlations, and every linear layer's masks. It has several parts, and
each part is a command of its own to the server. So a request whose run is prepared waits for one part at most.

Nothing is used twice, even after an error:

- If a part was begun, it is finished or the session ends.
- A run takes its preparation out of the pool before it begins.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from parties.prepared.shape import RunShape
from protocols.correlations import Request
from protocols.errors import ParameterError

__all__ = [
    "MAX_POOL",
    "MAX_PREPARED_IMAGES",
    "PARTS",
    "BackgroundRefill",
    "Pool",
    "PoolStatus",
    "Turns",
    "layers_of_part",
    "requests_of_part",
]

PARTS = 4
"""Parts of one preparation. Each is one command."""


MAX_PREPARED_IMAGES = 32
"""Images of all runs that are prepared at a time, at most. The server holds some 30 MB for each image."""

MAX_POOL = 16
"""Runs that the background task keeps prepared, at most. The server's own bound leaves room for a batch as well."""


@dataclass(frozen=True)
class PoolStatus:
    """How full the pool is.

    Args:
        ready: runs that are prepared.
        capacity: runs that the background task keeps prepared; 0 if there is no such task.
        begun: parts of the next preparation that are done.
    """

    ready: int
    capacity: int
    begun: int


def requests_of_part(requests: Sequence[Request], part: int) -> list[Request]:
    """Return the correlations that a part makes, the same on both sides. All parts make about equally many words."""
    sizes = np.cumsum([sum(math.prod(field.shape) for field in request.derived) for request in requests])
    bounds = np.searchsorted(sizes, sizes[-1] * np.arange(PARTS + 1) / PARTS) if len(sizes) else [0] * (PARTS + 1)
    stop = len(requests) if part == PARTS - 1 else bounds[part + 1]
    return list(requests[bounds[part] : stop])


def layers_of_part(names: Sequence[str], part: int) -> list[str]:
    """Return the layers that a part prepares, the same on both sides."""
    return [names[index] for index in np.array_split(np.arange(len(names)), PARTS)[part]]


class Pool:
    """Counts the prepared runs. It is not thread-safe by itself: see `Turns`.

    Args:
        prepare_part: called with a shape and the number of a part; does that part of a preparation.
    """

    def __init__(self, prepare_part: Callable[[RunShape, int], None]) -> None:
        self._prepare_part = prepare_part
        self._ready: Counter[RunShape] = Counter()
        self._begun: tuple[RunShape, int] | None = None
        self._running: tuple[RunShape, int] | None = None

    def room(self, shape: RunShape) -> bool:
        """Return whether there is room for a new preparation of a shape, or one that was begun is to be finished."""
        return self._begun is not None or self.fits(shape)

    def fits(self, shape: RunShape) -> bool:
        """Return whether there is room for one more run besides those that are prepared or begun."""
        held = sum(entry.images * count for entry, count in self._ready.items())
        begun = self._begun[0].images if self._begun else 0
        return held + begun + shape.images <= MAX_PREPARED_IMAGES

    def ready(self, shape: RunShape) -> int:
        """Return how many runs of a shape are prepared."""
        return self._ready[shape]

    def begun(self, shape: RunShape) -> int:
        """Return how many parts of the next preparation of a shape are done."""
        begun = self._running or self._begun
        return begun[1] if begun and begun[0] == shape else 0

    def add(self, shape: RunShape) -> None:
        """Count a run that was prepared elsewhere."""
        self._ready[shape] += 1

    def step(self, shape: RunShape) -> None:
        """Do one part of the preparation that was begun, whatever its shape, or else of a new one of this shape.

        Raises:
            ParameterError: so much is prepared that there is no room for a new preparation.
        """
        if not self.room(shape):
            raise ParameterError(f"expected at most {MAX_PREPARED_IMAGES} prepared images; verify some first")
        current, part = self._running = self._begun or (shape, 0)
        self._begun = None  # a part that fails is never done again
        try:
            self._prepare_part(current, part)
        finally:
            self._running = None
        if part + 1 < PARTS:
            self._begun = current, part + 1
        else:
            self._ready[current] += 1

    def prepare(self, shape: RunShape) -> None:
        """Prepare one more run of a shape, after finishing a preparation that was begun."""
        wanted = self._ready[shape] + 1
        while self._ready[shape] < wanted:
            self.step(shape)

    def take(self, shape: RunShape) -> bool:
        """Take a prepared run out of the pool, or prepare one now. Return whether the pool had one."""
        was_ready = self._ready[shape] > 0
        if not was_ready:
            self.prepare(shape)
        self._ready[shape] -= 1
        return was_ready


class Turns:
    """Lets requests and a background task take turns; a request goes first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._busy = False
        self._requests = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Run a block as a request, after the current turn has ended."""
        with self._condition:
            self._requests += 1
            try:
                self._condition.wait_for(lambda: not self._busy)
            finally:  # also after an interrupt, else the background task waits for this request forever
                self._requests -= 1
            self._busy = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def background(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """Run a block when no request waits and `wanted` returns true."""
        with self._condition:
            self._condition.wait_for(lambda: not self._busy and not self._requests and wanted())
            self._busy = True
        try:
            yield
        finally:
            self._release()

    def notify(self) -> None:
        """Make a waiting background task call its `wanted` again."""
        with self._condition:
            self._condition.notify_all()

    def _release(self) -> None:
        with self._condition:
            self._busy = False
            self._condition.notify_all()


class BackgroundRefill:
    """A thread that keeps a pool full between requests. Use as a context manager.

    Args:
        pool, turns: the session's pool and turns.
        shape: the shape of the runs to prepare.
        capacity: how many runs to keep prepared.
    """

    def __init__(self, pool: Pool, turns: Turns, shape: RunShape, capacity: int) -> None:
        if capacity < 1:
            raise ParameterError(f"expected to keep at least one run prepared, got {capacity}")
        self.shape, self.capacity = shape, capacity
        self.error: BaseException | None = None
        self._pool, self._turns = pool, turns
        self._stopped = False
        self._thread = threading.Thread(target=self._refill, name="hybridface-refill", daemon=True)

    def __enter__(self) -> "BackgroundRefill":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._turns.notify()
        self._thread.join()

    def _refill(self) -> None:
        while not self._stopped and self.error is None:
            with self._turns.background(self._wanted):
                try:
                    if not self._stopped:
                        self._pool.step(self.shape)
                except BaseException as error:  # stored before the turn ends, for the waiting request
                    self.error = error

    def _wanted(self) -> bool:
        return self._stopped or (self._pool.ready(self.shape) < self.capacity and self._pool.room(self.shape))
