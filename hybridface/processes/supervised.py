"""Processes of ranks on this machine: start them, read their output, watch them, and end them, whatever happens.

`mpiexec` and its ranks are a process group of their own. So Ctrl-C reaches the command alone, and the command ends
them. Each rank writes to pipes of its own, because long lines of two ranks would mix in a shared pipe.
"""

import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import IO

import psutil

from hybridface.errors import RunError
from hybridface.signals import cleaning_up, deferred
from launch.mpiexec import find_mpiexec, mpiexec_command
from parties.transport.shared_memory import PLACE, segments_of
from protocols.errors import UNTOLD

__all__ = ["RankProcesses"]

_KEPT_LINES = 50
_LOOK_SECONDS = 0.2
_END_SECONDS = 10.0
"""How long the others may outlive a rank that has ended."""

_FAILING_SECONDS = 5.0
"""How long ranks may take to end after one has said why it fails. They wait for each other for a shorter time."""

_TERMINATING_SECONDS = 0.4
_WEIGHING_SECONDS = 1.0
_WORKING_SHARE = 0.3
"""Share of one processor that all ranks use together: above it they compute, below it they wait for each other."""

_SHARED_BYTES = 1_200_000
"""Shared memory that MPI takes for each rank."""

_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
_ENDED = re.compile(r"\[\d+\](\d+):Return code = \d+(?:, signaled with (.+))?")
_FROM_MPIEXEC = ("Interrupt", "Quit", "Terminated")
"""Signals by which `mpiexec` ends the others when one rank has failed."""


Take = Callable[[str | None], None]
"""A function that takes a line; None marks the end."""


class RankProcesses:
    """A program for each rank, started by `mpiexec`; a context manager that leaves no process behind.

    Args:
        programs: command lines, in the order of the ranks.
        names: the ranks' names, for error messages.
        silence: seconds without output and without computation after which the ranks count as stuck.
        most: seconds after which the ranks are ended in any case.
        good: exit statuses that do not count as a failure.

    Raises:
        RunError: there is no `mpiexec`.
    """

    def __init__(
        self,
        programs: Sequence[Sequence[str]],
        names: Sequence[str],
        silence: float,
        *,
        most: float = float("inf"),
        good: Collection[int] = (0,),
    ) -> None:
        try:
            self._mpiexec = find_mpiexec()
        except FileNotFoundError as error:
            raise RunError(str(error)) from error
        self._programs, self._names = programs, names
        self._silence, self._most, self._good = silence, most, good
        self._spent = 0.0
        self._deadline = float("inf")
        self._ranks: dict[int, psutil.Process] = {}
        self._open = len(programs)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._noise: deque[tuple[str, str]] = deque(maxlen=_KEPT_LINES)
        self._ends: list[tuple[int, str]] = []

    def __enter__(self) -> "RankProcesses":
        _expect_shared_memory(len(self._programs))
        with ExitStack() as undo:
            undo.enter_context(cleaning_up())
            with deferred():  # so that everything that is started is also ended
                self._process, files = self._started(undo)
                self._readers = [threading.Thread(target=_pass_on, args=one, daemon=True) for one in files]
                undo.callback(self._join)
                undo.callback(_end_group, self._process)
                for reader in self._readers:
                    reader.start()
            self._begun = self._heard = self._all_here = self._weighed = time.monotonic()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def lines(self) -> Iterator[str]:
        """Yield the lines that the ranks write to standard output, until all ranks have ended.

        Raises:
            RunError: one rank has ended and the others do not, or no rank gives a sign of life any more.
        """
        looked = time.monotonic()
        while True:
            with suppress(queue.Empty):
                line = self._lines.get(timeout=_LOOK_SECONDS)
                if line is None:
                    self._open -= 1
                    if not self._open:
                        break
                    continue
                self._heard = time.monotonic()
                yield line
            now = time.monotonic()
            if now > self._deadline:
                return
            if now > looked + _LOOK_SECONDS:
                self._look(now)
                looked = now
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f"expected mpiexec to end within {_END_SECONDS:g} s of its ranks, it did not") from None
        self._join()

    def failing(self) -> None:
        """Wait only a few more seconds, because a rank has said why it fails."""
        self._deadline = min(self._deadline, time.monotonic() + _FAILING_SECONDS)

    def stopped(self) -> str:
        """Return which ranks' processes are stopped, in words to add to a message; "" if none is."""
        names = [
            f"the {self._names[number]}'s process {rank.pid}"
            for number, rank in self._ranks.items()
            if _status(rank) in _STOPPED
        ]
        return f" ({' and '.join(names)} {'is' if len(names) == 1 else 'are'} stopped)" if names else ""

    def unexpected_end(self) -> str | None:
        """Return which rank was killed or ended with an error, and the last line it wrote; None if none did."""
        status = self._process.poll()
        if not self._ends and status in self._good:
            return None
        by_itself = [end for end in self._ends if end[1] not in _FROM_MPIEXEC] or self._ends
        if by_itself:
            number, how = by_itself[0]
            name = self._names[number]
            return f"{name} ended unexpectedly ({how}){self.last_line({name})}"
        return f"{self._last()[0]} ended unexpectedly (exit status {status}){self.last_line()}"

    def last_line(self, names: Collection[str] = ()) -> str:
        """Return the last line on standard error that says why, with a colon before it; "" if there is none.

        Args:
            names: the ranks whose lines count; all ranks if left out.
        """
        line = self._last(names)[1]
        return f": {line}" if line else ""

    def _last(self, names: Collection[str] = ()) -> tuple[str, str]:
        """Return who has written the last line that says why, and the line.

        Lines of MPI itself do not count. Lines of a rank that ended because another one did come last.
        """
        lines = [one for one in list(self._noise) if not names or one[0] in names]
        said = [(name, line) for name, line in lines if not line.startswith("Abort(")]
        said.sort(key=lambda one: not one[1].endswith(UNTOLD))
        return said[-1] if said else ("a party", "")

    def _look(self, now: float) -> None:
        """Check the ranks' processes."""
        here = _ranks_of(self._process)
        self._ranks |= here
        gone = [name for number, name in enumerate(self._names) if number not in here]
        if self._process.poll() is not None:
            gone = ["mpiexec"]
        if not gone:
            self._all_here = now
        elif now > self._all_here + _END_SECONDS:
            raise RunError(f"{gone[0]} ended, and the others did not within {_END_SECONDS:g} s{self.last_line()}")
        if now > self._weighed + _WEIGHING_SECONDS:
            spent = sum(_seconds_of(rank) for rank in here.values())
            if spent - self._spent > _WORKING_SHARE * (now - self._weighed):
                self._heard = now
            self._spent, self._weighed = spent, now
        if now > self._begun + self._most:
            raise RunError(f"expected the ranks to end within {self._most:g} s, they did not{self.stopped()}")
        if now > self._heard + self._silence:
            raise RunError(f"expected signs of life within {self._silence:g} s, got none{self.stopped()}")

    def _started(self, undo: ExitStack) -> "tuple[subprocess.Popen[bytes], list[tuple[IO[bytes] | None, Take]]]":
        """Start `mpiexec`; return it, with the files to read and the function that takes the lines of each."""
        files: list[tuple[IO[bytes] | None, Take]] = []
        programs, written = [], []
        for program, name in zip(self._programs, self._names, strict=True):
            ends = []
            for take in (self._take, partial(self._keep, name)):
                read, write = os.pipe()
                files.append((undo.enter_context(os.fdopen(read, "rb")), take))
                ends.append(write)
            programs.append(_writing_to(program, *ends))
            written += ends
        try:
            process = subprocess.Popen(
                mpiexec_command(programs, self._mpiexec),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=written,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"cannot start {self._mpiexec}: {error.strerror}") from error
        finally:
            for file in written:
                os.close(file)
        return process, [*files, (process.stdout, partial(self._keep, "mpiexec"))]

    def _join(self) -> None:
        """Wait until everything that was written has been read."""
        for reader in self._readers:
            reader.join(1.0)

    def _take(self, line: str | None) -> None:
        self._lines.put(line)

    def _keep(self, name: str, line: str | None) -> None:
        """Keep one of the last lines of standard error; a line of `mpiexec` may say how a rank has ended."""
        if end := _ENDED.match(line or ""):
            self._ends += [(int(end[1]), end[2])] if end[2] else []
        elif line and line.strip():
            self._noise.append((name, line.strip()))


def _expect_shared_memory(ranks: int) -> None:
    """Raise `RunError` if shared memory is short: MPI does not check it, and ranks would die of a bus error."""
    if not PLACE.exists():
        return
    free, needed = shutil.disk_usage(PLACE).free, ranks * _SHARED_BYTES
    if free < needed:
        raise RunError(
            f"expected {needed / 1e6:.1f} MB of free shared memory for {ranks} ranks, found {free / 1e6:.1f} MB in "
            f"{PLACE}: delete old files there, or give a container more (--shm-size)"
        )


def _writing_to(program: Sequence[str], output: int, error: int) -> list[str]:
    """Return the command line that runs a program with its output in open files, given by their numbers."""
    return ["/bin/sh", "-c", f'exec "$@" >/dev/fd/{output} 2>/dev/fd/{error}', "sh", *program]


def _pass_on(file: IO[bytes] | None, take: Take) -> None:
    """Pass on every line of a file, and None at the end."""
    for line in file or ():
        take(line.decode(errors="replace"))
    take(None)


def _ranks_of(process: "subprocess.Popen[bytes]") -> dict[int, psutil.Process]:
    """Return the processes of the ranks that have not ended, by rank."""
    found = {}
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error, KeyError):
                if _status(child) != psutil.STATUS_ZOMBIE:
                    found[int(child.environ()["PMI_RANK"])] = child
    return found


def _seconds_of(process: psutil.Process) -> float:
    """Return the processor seconds that a process has taken."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return str(psutil.STATUS_DEAD)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End `mpiexec` and all that it started: ask them, wait a moment, and kill what is left, stopped or not.

    Ranks that have not joined yet leave shared memory behind; remove it.
    """
    process.poll()  # reap it: a process that has ended still counts as one of the group before
    segments = {segment for rank in _ranks_of(process).values() for segment in segments_of(rank.pid)}
    try:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TERMINATING_SECONDS)
    except ProcessLookupError:
        pass  # all have ended
    finally:  # even if a signal arrives now
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for segment in segments:
            segment.unlink(missing_ok=True)
