"""Start the parties as MPI processes on this machine, follow their events, and collect the outcome."""

import json
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hybridface.errors import RunError
from hybridface.output.terminal import Event
from hybridface.processes.programs import Program, programs_of
from hybridface.processes.runs import Run
from launch.mpiexec import find_mpiexec, mpiexec_command, python_module

__all__ = ["Outcome", "start"]

_KEPT_LINES = 20
_START_SECONDS, _END_SECONDS = 60.0, 10.0
_ENDED_PROCESS = re.compile(r"PID (\d+) RUNNING")


@dataclass
class Outcome:
    """What the ranks said.

    Args:
        results: the client's, in order, as JSON objects.
        decision: what was revealed to the server, if anything: of a gallery, whether it found anybody, or the claimed
            identity.
        memory: peak bytes of each role (of workers, the largest).
        resident: bytes of client and server after every operation.
        answers: of a gallery's client, one a task.
        setup: what the session's keys cost, as a stage's cost; in hybrid mode only of a session that enrols.
        found: whom an identification has found, if that was revealed to the server; Nones for those above the
            threshold.
        kept: what preparing each run cost that was kept.
    """

    results: list[Event] = field(default_factory=list)
    decision: bool | None = None
    memory: dict[str, int] = field(default_factory=dict)
    resident: dict[str, list[int]] = field(default_factory=dict)
    answers: list[Event] = field(default_factory=list)
    setup: Event | None = None
    found: tuple[str | None, ...] | None = None
    kept: list[Event] = field(default_factory=list)

    @property
    def match(self) -> bool | None:
        """The decision, by whoever learned it."""
        match = self.results[-1]["match"] if self.results else None
        return self.decision if match is None else bool(match)


def start(run: Run, on_event: Callable[[Event], None] | None = None) -> Outcome:
    """Start the ranks of a run on this machine, follow them to their end, and return the outcome.

    Args:
        on_event: called with every event of a rank.

    Raises:
        RunError: a rank failed; says why, on one line.
    """
    return _follow(_mpiexec(programs_of(run)), run.timeout + _START_SECONDS, on_event)


def _mpiexec(programs: Sequence[Program]) -> list[str]:
    """Return the command line that starts a rank of `hybridface party` for each list of arguments."""
    ranks = [python_module("hybridface", "party", *program) for program in programs]
    try:
        return mpiexec_command(ranks, find_mpiexec())
    except FileNotFoundError as error:
        raise RunError(str(error)) from error


def _follow(command: list[str], silence: float, on_event: Callable[[Event], None] | None) -> Outcome:
    """Run the ranks, listen to them, and return what they said."""
    outcome = Outcome()
    errors: list[Event] = []
    roles: dict[int, str] = {}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        noise = _drain(process)
        try:
            for event in _events(process, silence):
                if event["event"] == "started":
                    roles[event["pid"]] = event["role"]
                _collect(event, outcome, errors)
                if on_event:
                    on_event(event)
            status = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f"expected mpiexec to end within {_END_SECONDS:g} s of its ranks, it did not") from None
        finally:
            process.kill()
    if errors:
        raise RunError(_first_cause(errors))
    if status not in (0, 1) or not (outcome.results or outcome.answers or outcome.kept):
        raise RunError(_unexpected_end(status, noise, roles))
    return outcome


def _unexpected_end(status: int, noise: Sequence[str], roles: dict[int, str]) -> str:
    """Say which rank ended without a word, if mpiexec names its process; and the last line that was written."""
    named = [int(found[1]) for line in noise if (found := _ENDED_PROCESS.search(line))]
    who = next((roles[pid] for pid in named if pid in roles), "a party")
    said = [line for line in noise if not line.startswith("=") and line.strip("= ")]
    last = f": {said[-1]}" if said else ""
    return f"{who} ended unexpectedly (mpiexec's exit status {status}){last}"


def _events(process: "subprocess.Popen[str]", silence: float) -> Iterator[Event]:
    """Yield the ranks' events; end the ranks after `silence` seconds without one (one that never joined MPI, say)."""
    watch = threading.Timer(silence, process.kill)
    watch.start()
    try:
        for line in process.stdout or ():
            watch.cancel()
            watch = threading.Timer(silence, process.kill)
            watch.start()
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event
    finally:
        watch.cancel()


def _drain(process: "subprocess.Popen[str]") -> deque[str]:
    """Keep the last lines of standard error, read by a thread of their own."""
    lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def read() -> None:
        lines.extend(line.strip() for line in process.stderr or () if line.strip())

    threading.Thread(target=read, daemon=True).start()
    return lines


def _collect(event: Event, outcome: Outcome, errors: list[Event]) -> None:
    match event["event"]:
        case "result":
            outcome.results.append({key: value for key, value in event.items() if key != "event"})
        case "answer":
            outcome.answers.append({key: value for key, value in event.items() if key != "event"})
        case "kept":
            outcome.kept.append({key: value for key, value in event.items() if key != "event"})
        case "setup":
            outcome.setup = {key: value for key, value in event.items() if key != "event"}
        case "decision":
            outcome.decision = bool(event["match"])
        case "identified":
            outcome.found = tuple(event["identities"])
            outcome.decision = any(name is not None for name in outcome.found)
        case "memory":
            role, peak = event["role"], int(event["peak_bytes"])
            outcome.memory[role] = max(peak, outcome.memory.get(role, 0))
        case "resident":
            outcome.resident.setdefault(event["role"], []).append(int(event["bytes"]))
        case "error":
            errors.append(event)


def _first_cause(errors: list[Event]) -> str:
    """The error of the rank that failed first, not those of its peers, who only say that it ended."""
    causes = [event for event in errors if not event.get("from_peer")] or errors
    return f"{causes[0]['role']}: {causes[0]['message']}"
