"""Ranks as threads of this process: what `mpiexec` and MPI do for a run, without the seconds that processes take.

`Ranks` stands in for `subprocess` in the module that starts `mpiexec`: it takes the same command line, and runs each
program in a thread. MPI is replaced below `parties.transport.mpi`, which runs as it is: messages are copied between the
threads, a message counts as taken when its receiver has it, and `Abort` ends all ranks. Only a dozen tests start real
ranks (see `tests/system/test_mpi.py`): those that are about processes.
"""

import ast
import io
import os
import re
import runpy
import subprocess
import sys
import threading
import time
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import psutil
import pytest

from hybridface.commands import main as command_line
from hybridface.models.model import load_model
from launch.mpiexec import mpiexec_command

__all__ = ["Done", "Ranks", "ranks_in_threads"]

Done = tuple[int, str, str]
"""How a command ended: its exit status, standard output, standard error."""

_KILLED = -9
_start_thread, _excepthook = threading.Thread.start, threading.excepthook


class Aborted(BaseException):
    """Ends a rank's thread, as the process of an aborted rank ends."""


@dataclass
class Request:
    """Something under way, which is done when `done` says so."""

    done: Callable[[], bool]

    def Test(self) -> bool:  # noqa: N802
        _this_rank().world.check()
        return self.done()


class Status:
    """The size of a message that was found."""

    def Get_count(self, _: Any) -> int:  # noqa: N802
        return self.count

    count = 0


@dataclass
class Message:
    """A message that its receiver has found."""

    content: bytes
    taken: threading.Event

    def Irecv(self, into: list[Any]) -> Request:  # noqa: N802
        into[0][:] = self.content
        self.taken.set()
        return Request(lambda: True)


class World:
    """All ranks of one run: their messages, what they said on joining, and whether one has aborted."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.joined: dict[int, bytes] = {}
        self.left: set[int] = set()
        self.aborted: int | None = None
        self.lock = threading.Lock()
        self.boxes: dict[tuple[int, int], deque[Message]] = {}

    def check(self) -> None:
        if self.aborted is not None:
            raise Aborted

    def abort(self, status: int) -> None:
        if self.aborted is None:
            self.aborted = status


@dataclass
class Communicator:
    """One rank's end of a world, with the methods of MPI's that `parties.transport.mpi` calls."""

    world: World
    rank: int

    def Idup(self) -> tuple["Communicator", Request]:  # noqa: N802
        return self, Request(lambda: True)

    def Ibarrier(self) -> Request:  # noqa: N802
        self.world.left.add(self.rank)
        return Request(lambda: len(self.world.left) == self.world.size)

    def Set_errhandler(self, _: Any) -> None:  # noqa: N802
        return

    def Get_rank(self) -> int:  # noqa: N802
        return self.rank

    def Get_size(self) -> int:  # noqa: N802
        return self.world.size

    def Abort(self, status: int) -> None:  # noqa: N802
        self.world.abort(status)
        raise Aborted

    def Iallgather(self, own: list[Any], everybody: list[Any]) -> Request:  # noqa: N802
        self.world.joined[self.rank] = bytes(own[0])

        def done() -> bool:
            if len(self.world.joined) < self.world.size:
                return False
            everybody[0][:] = b"".join(self.world.joined[rank] for rank in range(self.world.size))
            return True

        return Request(done)

    def Isend(self, message: list[Any], to: int, _: int) -> Request:  # noqa: N802
        self.world.check()
        sent = Message(bytes(message[0]), threading.Event())
        with self.world.lock:
            self.world.boxes.setdefault((self.rank, to), deque()).append(sent)
        return Request(sent.taken.is_set)

    def Improbe(self, source: int, _: int, status: Status) -> Message | None:  # noqa: N802
        self.world.check()
        with self.world.lock:
            box = self.world.boxes.get((source, self.rank))
            if not box:
                return None
            found = box.popleft()
        status.count = len(found.content)
        return found


class Output:
    """What one rank's thread writes: kept, or passed on to a pipe.

    Args:
        file: the pipe's number; None to keep it.
    """

    def __init__(self, file: int | None) -> None:
        self._pipe = None if file is None else os.fdopen(os.dup(file), "w")
        self._kept: list[str] = []
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            self._kept.append(text)
            if self._pipe and not self._pipe.closed:
                with suppress(BrokenPipeError):
                    self._pipe.write(text)
                    self._pipe.flush()
        return len(text)

    def text(self) -> str:
        with self._lock:
            return "".join(self._kept)

    def end(self) -> None:
        with self._lock:
            if self._pipe:
                with suppress(BrokenPipeError):
                    self._pipe.close()


class _Stream(io.TextIOBase):
    """Standard output or error: of the rank whose thread writes, else of this process."""

    def __init__(self, name: str) -> None:
        self._name, self._own = name, getattr(sys, name)

    def write(self, text: str) -> int:
        rank = _rank_of(threading.current_thread())
        return (getattr(rank, self._name) if rank else self._own).write(text)

    def flush(self) -> None:
        self._own.flush()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


@dataclass
class Rank:
    """One rank's thread, and what belongs to it."""

    world: World
    number: int
    stdout: Output
    stderr: Output
    program: Sequence[str]
    status: int = 0
    thread: threading.Thread = field(init=False)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"rank {self.number}", daemon=True)
        self.thread.rank = self  # type: ignore[attr-defined]
        self.thread.start()

    def _run(self) -> None:
        try:
            self.status = _call(self.program)
        except Aborted:
            return
        except BaseException:
            traceback.print_exc()
            self.status = 1
            self.world.abort(self.status)
        if self.number not in self.world.joined and self.world.size > 1:
            self.world.abort(self.status)  # as a rank does that mpiexec has started


def _call(program: Sequence[str]) -> int:
    """Run `python -P -m module arguments`, or `python script`, here, and return its exit status."""
    assert program[0] == sys.executable, program
    try:
        match program[1:]:
            case ["-P", "-m", "hybridface", *arguments]:
                command_line.main(arguments)
            case ["-P", "-m", module, *arguments]:
                return int(import_module(module).main(*arguments))
            case [script]:
                runpy.run_path(script, run_name="__main__")
        return 0
    except SystemExit as end:
        return int(end.code or 0)


def _rank_of(thread: threading.Thread) -> Rank | None:
    return getattr(thread, "rank", None)


def _this_rank() -> Rank:
    rank = _rank_of(threading.current_thread())
    assert rank is not None, "MPI in a thread of no rank"
    return rank


class Ranks:
    """A run of ranks, with the attributes and methods of `subprocess.Popen` that are used of one."""

    stdout = None

    def __init__(self, command: Sequence[str], **_: Any) -> None:
        programs = _programs(command)
        self.world = World(len(programs))
        self.ranks = [
            Rank(self.world, number, Output(output), Output(error), program)
            for number, (program, output, error) in enumerate(programs)
        ]
        self.returncode: int | None = None
        for rank in self.ranks:
            rank.start()
        threading.Thread(target=self._end, daemon=True).start()

    @classmethod
    def of(cls, programs: Sequence[Sequence[str]]) -> "Ranks":
        """Start programs as ranks."""
        return cls(mpiexec_command(programs))

    def end(self, seconds: float = 60.0) -> Done:
        """Wait for the end; return exit status, and what all wrote to standard output and to standard error."""
        try:
            status = self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return status, *("".join(getattr(rank, name).text() for rank in self.ranks) for name in ("stdout", "stderr"))

    def _end(self) -> None:
        while self.world.aborted is None and any(rank.thread.is_alive() for rank in self.ranks):
            time.sleep(0.002)
        aborted = self.world.aborted
        self.returncode = max(rank.status for rank in self.ranks) if aborted is None else aborted
        for rank in self.ranks:
            rank.stdout.end()
            rank.stderr.end()

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("mpiexec", timeout or 0)
            time.sleep(0.002)
        return self.returncode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            self.world.abort(_KILLED)

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        for rank in self.ranks:
            rank.thread.join(10)


def _programs(command: Sequence[str]) -> list[tuple[list[str], int | None, int | None]]:
    """Return the program of every rank of an `mpiexec` command line, and the pipes that it writes to, if any."""
    programs: list[tuple[list[str], int | None, int | None]] = []
    words = list(command)
    while words:
        end = words.index(":") if ":" in words else len(words)
        program, words = words[:end], words[end + 1 :]
        start = program.index("-n")
        assert program[start + 1] == "1"
        match program[start + 2 :]:
            case ["/bin/sh", "-c", redirected, "sh", *rest]:
                output, error = re.findall(r"/dev/fd/(\d+)", redirected)
                programs.append((rest, int(output), int(error)))
            case rest:
                programs.append((rest, None, None))
    return programs


def _all_ranks(ranks: Ranks) -> dict[int, psutil.Process]:
    """Return this process for every rank: all are there."""
    return dict.fromkeys(range(len(ranks.ranks)), psutil.Process())


def _end_ranks(ranks: Ranks) -> None:
    """End the threads as processes are ended."""
    ranks.__exit__()


class _Mpi(types.ModuleType):
    """MPI, as far as `parties.transport.mpi` uses it."""

    Comm, Request, Status, BYTE, ERRORS_RETURN = Communicator, Request, Status, None, None

    @staticmethod
    def Is_initialized() -> bool:  # noqa: N802
        return True

    @staticmethod
    def Is_finalized() -> bool:  # noqa: N802
        return _this_rank().number in _this_rank().world.left

    @property
    def COMM_WORLD(self) -> Communicator:  # noqa: N802
        rank = _this_rank()
        return Communicator(rank.world, rank.number)


def _load_transport() -> types.ModuleType:
    """Import `parties.transport.mpi` over this MPI: the real one starts when it is imported."""
    package = types.ModuleType("mpi4py")
    package.MPI = _Mpi("mpi4py.MPI")  # type: ignore[attr-defined]
    package.rc = types.SimpleNamespace()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mpi4py", package)
        return import_module("parties.transport.mpi")


_transport = _load_transport()


@contextmanager
def ranks_in_threads() -> Iterator[None]:
    """Let whatever starts ranks in this process meanwhile start threads.

    Standard output and error are replaced too, so it must begin and end within one phase of a test: pytest replaces
    them between phases.
    """
    assert isinstance(_transport.MPI, _Mpi), "real MPI runs in this process"
    instead = types.SimpleNamespace(
        Popen=Ranks,
        PIPE=subprocess.PIPE,
        STDOUT=subprocess.STDOUT,
        DEVNULL=subprocess.DEVNULL,
        TimeoutExpired=subprocess.TimeoutExpired,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridface.processes.supervised.subprocess", instead)
        patch.setattr("hybridface.processes.supervised._ranks_of", _all_ranks)
        patch.setattr("hybridface.processes.supervised._end_group", _end_ranks)
        patch.setenv("PYDANTIC_DISABLE_PLUGINS", "1")  # typer removes it while another thread may read arguments
        patch.setattr("hybridface.processes.joined.tune_process", lambda: None)
        patch.setattr("hybridface.processes.inputs.load_model", _load_model)
        patch.setattr("ast.parse", _parse_alone)
        patch.setattr(threading.Thread, "start", _start)
        patch.setattr(threading, "excepthook", _except)
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, _Stream(name))
        yield


_parse, _parsing = ast.parse, threading.Lock()


def _parse_alone(*arguments: Any, **options: Any) -> ast.AST:
    """Parse; Python 3.11 fails when two threads do at once, which ranks that are processes cannot meet."""
    with _parsing:
        return _parse(*arguments, **options)


_loading = threading.Lock()


def _load_model(*arguments: Any, **options: Any) -> Any:
    """Load a network; torch traces one at a time."""
    with _loading:
        return load_model(*arguments, **options)


def _start(thread: threading.Thread) -> None:
    """Start a thread, which belongs to the rank that starts it."""
    if _rank_of(thread) is None:
        thread.rank = _rank_of(threading.current_thread())  # type: ignore[attr-defined]
    _start_thread(thread)


def _except(arguments: Any) -> None:
    if arguments.exc_type is not Aborted:
        _excepthook(arguments)
