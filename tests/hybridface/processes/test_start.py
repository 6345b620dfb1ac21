"""Starting the ranks: their events become an outcome, their failures one line, their progress bars."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybridface.errors import RunError
from hybridface.measure.cost import ranks
from hybridface.output.terminal import ProgressBars
from hybridface.processes import start as run
from hybridface.processes import supervised
from hybridface.processes.runs import HybridRun
from hybridface.processes.start import Outcome, start
from hybridface.processes.supervised import RankProcesses

Program = list[str]

MARK = f"rank of a test of {os.getpid()}"
"""An argument by which processes of ranks are found."""


def say(*events: dict[str, Any] | str, status: int = 0, then: str = "") -> Program:
    """Return a program that prints events, does something, and ends; a rank that does not use MPI."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    text = "".join(f"{line}\n" for line in lines)
    program = (
        f"import sys, time, os, signal\nsys.stdout.write({text!r}); sys.stdout.flush()\n{then}\nsys.exit({status})"
    )
    return [sys.executable, "-c", program, MARK]


def outcome_of(monkeypatch: pytest.MonkeyPatch, client: Program, server: Program, timeout: float = 60.0) -> Outcome:
    """Run programs in the places of client and server."""
    programs: dict[str, Program] = {"client": client, "server": server}
    monkeypatch.setattr(run, "python_module", lambda module, party, role, *_: programs[role])
    return start(HybridRun(model="tiny-test", photos=(Path("a"), Path("b")), timeout=timeout))


RESULT = {"event": "result", "match": None, "cost": {}}
STAY = "time.sleep(600)"


@pytest.mark.slow
def test_events_become_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"event": "memory", "role": "server", "peak_bytes": 5}
    decision = {"event": "decision", "role": "server", "match": False}
    noise = ["a warning of a library", "{", "[1]", '{"no": "event"}']
    outcome = outcome_of(monkeypatch, say(*noise, RESULT, RESULT, status=1), say(decision, memory))
    assert outcome.results == [{"match": None, "cost": {}}] * 2
    assert (outcome.match, outcome.memory) == (False, {"server": 5})


@pytest.mark.slow
def test_long_lines_of_two_ranks_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is longer than what a pipe takes at once."""
    event = "{'event': 'result', 'match': None, 'cost': {'text': 'x' * 100_000}}"
    many = f"import json\nfor _ in range(20): print(json.dumps({event}), flush=True)"
    outcome = outcome_of(monkeypatch, say(then=many), say(then=many))
    assert [len(result["cost"]["text"]) for result in outcome.results] == [100_000] * 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("client", "server", "message"),
    [
        (say(RESULT, status=3), say(), r"^a party ended unexpectedly \(exit status 3\)$"),
        (say(), say(), r"^a party ended unexpectedly \(it said nothing\)$"),
        (
            say(),
            say(status=9, then="print('one\\nout of memory', file=sys.stderr)"),
            r"^server ended unexpectedly \(exit status 9\): out of memory$",
        ),
        (
            say(RESULT),
            say(then="os.kill(os.getpid(), signal.SIGKILL)"),
            r"^server ended unexpectedly \(Killed\)$",
        ),
        (
            say({"event": "error", "role": "client", "message": "server ended: no disk", "from_peer": True}),
            say({"event": "error", "role": "server", "message": "no disk"}, RESULT),
            r"^server: no disk$",
        ),
    ],
    ids=["status", "silence", "last line", "a killed rank", "first cause"],
)
def test_failures_become_one_line(
    monkeypatch: pytest.MonkeyPatch, client: Program, server: Program, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        outcome_of(monkeypatch, client, server)


@pytest.mark.slow
def test_a_rank_that_outlives_the_others_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "_END_SECONDS", 0.5)
    with pytest.raises(RunError, match=r"^server ended, and the others did not within 0\.5 s$"):
        outcome_of(monkeypatch, say(then=STAY), say())
    assert not left()


@pytest.mark.slow
def test_nothing_is_waited_for_once_a_rank_has_said_why_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "_FAILING_SECONDS", 0.5)
    error = {"event": "error", "role": "client", "message": "no photo"}
    with pytest.raises(RunError, match=r"^client: no photo$"):
        outcome_of(monkeypatch, say(error, then=STAY), say(then=STAY))
    assert not left()


@pytest.mark.slow
def test_a_stopped_rank_is_named_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_START_SECONDS", 1.0)
    stopped = say(then="os.kill(os.getpid(), signal.SIGSTOP)")
    expected = r"^expected signs of life within 2 s, got none \(the server's process \d+ is stopped\)$"
    with pytest.raises(RunError, match=expected):
        outcome_of(monkeypatch, say(then=STAY), stopped, timeout=1.0)
    assert not left()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_mpiexec_has_started_ends_without_it(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(supervised, "_END_SECONDS", 0.5)
    monkeypatch.setattr(run, "_START_SECONDS", 1.0)
    with pytest.raises(RunError):
        outcome_of(monkeypatch, say(then=f"os.kill(os.getppid(), {int(number)}); {STAY}"), say(then=STAY), timeout=1.0)
    assert not left()


def test_too_little_shared_memory_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "_SHARED_BYTES", 10**18)
    with pytest.raises(RunError, match=r"^expected .* MB of free shared memory for 2 ranks, found .* MB in /dev/shm: "):
        outcome_of(monkeypatch, say(RESULT), say())


@pytest.mark.slow
def test_a_rank_that_computes_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not say anything meanwhile: a large index, on a slow machine."""
    monkeypatch.setattr(run, "_START_SECONDS", 1.0)
    monkeypatch.setattr(supervised, "_WEIGHING_SECONDS", 0.2)
    monkeypatch.setattr(supervised, "_WORKING_SHARE", 0.02)  # on a busy machine
    busy = say(RESULT, then="end = time.monotonic() + 5\nwhile time.monotonic() < end: pass")
    assert outcome_of(monkeypatch, busy, say(then="time.sleep(5)"), timeout=1.0).results


@pytest.mark.slow
def test_a_benchmarks_ranks_that_do_not_end_name_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranks, "python_module", lambda *_: ["sleep", "60"])
    with pytest.raises(RunError, match=r"^expected the ranks to end within 0\.1 s, they did not$"):
        ranks.run_ranks("hybridface.nothing", [[str(tmp_path)]], 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("raise ValueError('no')", r"^rank 1 ended unexpectedly \(exit status 1\): ValueError: no$"),
        ("while True: pass", r"^expected the ranks to end within 2 s, they did not$"),
    ],
    ids=["fails", "computes for ever"],
)
def test_a_benchmark_whose_ranks_fail_is_an_error(monkeypatch: pytest.MonkeyPatch, then: str, message: str) -> None:
    programs = {"0": say(RESULT), "1": say(RESULT, then=then)}
    monkeypatch.setattr(ranks, "python_module", lambda module, number: programs[number])
    with pytest.raises(RunError, match=message):
        ranks.run_ranks("hybridface.nothing", [["0"], ["1"]], 2.0)
    assert not left()


@pytest.mark.slow
def test_a_signal_does_not_stop_the_end_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stop

    deaf = say(then=f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAY}")
    with pytest.raises(Stop), RankProcesses([deaf, deaf], ["a", "b"], 60.0) as started:
        time.sleep(1)
        monkeypatch.setattr(started._process, "wait", stop)
    monkeypatch.undo()
    started._process.wait()
    assert not left()


@pytest.mark.slow
def test_the_ranks_leave_standard_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"the caller's next line")
    os.close(write)
    saved = os.dup(0)
    os.dup2(read, 0)
    answer = "print(json.dumps({'event': 'memory', 'role': 'client', 'peak_bytes': len(sys.stdin.read())}))"
    try:
        outcome = outcome_of(monkeypatch, say(RESULT, then=f"import json; {answer}"), say())
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
    assert outcome.memory == {"client": 0}


def left() -> Sequence[psutil.Process]:
    """Return the ranks' processes that have not ended within a second."""
    deadline = time.monotonic() + 1
    while (found := [one for one in psutil.process_iter() if MARK in _words(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def test_progress_bars() -> None:
    bars = ProgressBars(shown=False)

    def progress(role: str, phase: str, stage: str, index: int, total: int) -> None:
        bars({"event": "progress", "role": role, "phase": phase, "stage": stage, "index": index, "total": total})

    with bars:
        bars({"event": "memory", "role": "client", "peak_bytes": 1})
        progress("client", "start", "keys and weights", 0, 1)
        progress("server", "start", "weights of conv", 3, 9)
        progress("client", "offline", "correlations", 1, 2)
        progress("client", "online", "relu", 5, 16)
        progress("client", "elsewhere", "relu", 5, 16)
        tasks = {task.fields["phase"]: task for task in bars._progress.tasks}
    assert list(tasks) == ["start", "offline", "online"]
    assert (tasks["online"].completed, tasks["online"].total, tasks["online"].description) == (5, 16, "relu")
    assert tasks["start"].completed == tasks["start"].total
    assert tasks["offline"].completed == tasks["offline"].total == 2
