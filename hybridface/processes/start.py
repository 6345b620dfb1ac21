"""Start the parties as MPI processes on this machine, follow their events, and collect the outcome."""

import json
from collections.abc import Callable

from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME, RunError
from hybridface.output.terminal import Event
from hybridface.processes.outcome import Outcome
from hybridface.processes.programs import programs_of
from hybridface.processes.runs import Run
from hybridface.processes.supervised import RankProcesses
from launch.mpiexec import python_module

__all__ = ["Outcome", "start"]

_START_SECONDS = 60.0


def start(run: Run, on_event: Callable[[Event], None] | None = None) -> Outcome:
    """Start the ranks of a run on this machine, follow them to their end, and return the outcome.

    Args:
        on_event: called with every event of a rank.

    Raises:
        RunError: a rank failed; the message says why, on one line.
    """
    programs = programs_of(run)
    commands = [python_module("hybridface", "party", *program) for program in programs]
    names = [program[0] for program in programs]
    outcome = Outcome()
    errors: list[Event] = []
    with RankProcesses(commands, names, run.timeout + _START_SECONDS, good=(EXIT_SAME, EXIT_DIFFERENT)) as ranks:
        for line in ranks.lines():
            event = _event(line)
            if event is None:
                continue
            if event["event"] == "error":
                errors.append(event)
                ranks.failing()
            outcome.add(event)
            if on_event:
                on_event(event)
        if errors:
            raise RunError(_first_cause(errors) + ranks.stopped())
        failure = ranks.unexpected_end()
        if failure is None and not (outcome.results or outcome.answers or outcome.kept):
            failure = f"a party ended unexpectedly (it said nothing){ranks.last_line()}"
    if failure:
        raise RunError(failure)
    return outcome


def _event(line: str) -> Event | None:
    """Return the event of a line; None for a line that a library has written."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _first_cause(errors: list[Event]) -> str:
    """Return the error of the rank that failed first, not those of its peers, which only say that it ended."""
    causes = [event for event in errors if not event.get("from_peer")] or errors
    return f"{causes[0]['role']}: {causes[0]['message']}"
