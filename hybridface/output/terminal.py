"""Output that all commands share: a result as JSON or as a table, and progress bars."""

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hybridface.output.documents import print_json

__all__ = ["Event", "ProgressBars", "show", "width"]

Event = dict[str, Any]
"""A message from a rank to the command that started it."""


def show(
    document: dict[str, Any], table: Callable[[dict[str, Any]], RenderableType], as_json: bool, columns: int = 110
) -> None:
    """Print a result as one JSON object, or as a table as wide as the terminal (in a pipe, `columns` wide)."""
    if as_json:
        print_json(document)
    else:
        Console(width=None if sys.stdout.isatty() else columns).print(table(document))


def width() -> int | None:
    """Return None, so that rich finds the terminal's width; in a pipe, return a width for the whole table."""
    return None if sys.stdout.isatty() else 110


class ProgressBars:
    """Progress bars on standard error, one each for the start, the offline phase and the layers of the online phase."""

    _PHASES = ("start", "offline", "online")

    def __init__(self, shown: bool = True) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[phase]:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=not (shown and sys.stderr.isatty()),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "ProgressBars":
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._progress.__exit__(*exception)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if event["event"] != "progress" or event["phase"] not in self._PHASES:
            return
        phase, index, total = event["phase"], event["index"], event["total"]
        for earlier, task in self._tasks.items():
            if self._PHASES.index(earlier) < self._PHASES.index(phase):
                self._progress.update(task, completed=self._progress.tasks[task].total, description="done")
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task("", total=total, phase=phase)
        if phase == "start" and event["role"] == "client":
            return  # loading the server's weights takes the time
        self._progress.update(self._tasks[phase], completed=index, total=total, description=event["stage"])
