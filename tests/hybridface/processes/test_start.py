"""Starting the ranks: their events become an outcome, their failures one line, their progress bars."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hybridface.errors import RunError
from hybridface.measure.cost import ranks
from hybridface.output.terminal import ProgressBars
from hybridface.processes import start as run
from hybridface.processes.runs import HybridRun
from hybridface.processes.start import Outcome, start


def say(*events: dict[str, Any] | str, status: int = 0, then: str = "") -> list[str]:
    """Return a command that prints events, as mpiexec would pass them on."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    program = f"import sys, time, os\nprint({chr(10).join(lines)!r}, flush=True)\n{then}\nsys.exit({status})"
    return [sys.executable, "-c", program]


def outcome_of(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> Outcome:
    monkeypatch.setattr(run, "mpiexec_command", lambda ranks, mpiexec: command)
    return start(HybridRun(model="tiny-test", photos=(Path("a"), Path("b"))))


RESULT = {"event": "result", "match": None, "cost": {}}


@pytest.mark.slow
def test_events_become_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"event": "memory", "role": "server", "peak_bytes": 5}
    decision = {"event": "decision", "role": "server", "match": False}
    noise = ["a warning of a library", "{", "[1]", '{"no": "event"}']
    outcome = outcome_of(monkeypatch, say(*noise, RESULT, RESULT, decision, memory, status=1))
    assert outcome.results == [{"match": None, "cost": {}}] * 2
    assert (outcome.match, outcome.memory) == (False, {"server": 5})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (say(RESULT, status=3), r"^a party ended unexpectedly \(mpiexec's exit status 3\)$"),
        (say(status=0), r"^a party ended unexpectedly \(mpiexec's exit status 0\)$"),
        (
            say(status=9, then="print('one\\nout of memory\\n', file=sys.stderr)"),
            r"^a party ended unexpectedly \(mpiexec's exit status 9\): out of memory$",
        ),
        (
            say(
                {"event": "started", "role": "client", "pid": 41},
                {"event": "started", "role": "server-shard", "pid": 42},
                status=9,
                then="print('====\\n=   PID 42 RUNNING AT here\\n=   KILLED', file=sys.stderr)",
            ),
            r"^server-shard ended unexpectedly \(mpiexec's exit status 9\)$",
        ),
        (
            say(
                {"event": "error", "role": "client", "message": "server ended: no disk", "from_peer": True},
                {"event": "error", "role": "server", "message": "no disk"},
                RESULT,
            ),
            r"^server: no disk$",
        ),
    ],
    ids=["status", "silence", "last line", "a killed rank", "first cause"],
)
def test_failures_become_one_line(monkeypatch: pytest.MonkeyPatch, program: list[str], message: str) -> None:
    with pytest.raises(RunError, match=message):
        outcome_of(monkeypatch, program)


@pytest.mark.slow
def test_an_mpiexec_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_END_SECONDS", 0.2)
    with pytest.raises(RunError):
        outcome_of(monkeypatch, say(RESULT, then="sys.stdout.flush(); os.close(1); time.sleep(60)"))


@pytest.mark.slow
def test_a_benchmarks_ranks_that_do_not_end_name_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranks, "mpiexec_command", lambda *_: ["sleep", "60"])
    with pytest.raises(RunError, match=r"^expected the ranks to end within 0\.1 s, they did not$"):
        ranks.run_ranks("hybridface.nothing", [[str(tmp_path)]], 0.1)


@pytest.mark.slow
def test_the_ranks_leave_standard_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"the caller's next line")
    os.close(write)
    saved = os.dup(0)
    os.dup2(read, 0)
    answer = "print(json.dumps({'event': 'memory', 'role': 'client', 'peak_bytes': len(sys.stdin.read())}))"
    try:
        outcome = outcome_of(monkeypatch, say(RESULT, then=f"import json; {answer}"))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
    assert outcome.memory == {"client": 0}


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
