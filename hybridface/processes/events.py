"""Events: what a party reports to the command that started it.

A rank writes JSON lines to standard output, one per event. A party in the command's own process calls a function.
"""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hybridface.errors import escaped
from parties.session.progress import OnProgress, Progress
from parties.transport.roles import Role

__all__ = ["Events", "HeardEvents"]

_LOCK = threading.Lock()


class Events:
    """Write a rank's events, or nothing.

    Args:
        role: the rank's role.
        shown: whether anybody reads the events.
    """

    def __init__(self, role: Role, shown: bool) -> None:
        self.role, self.shown = role, shown

    def say(self, event: str, **fields: Any) -> None:
        """Write an event, if anybody reads it."""
        if not self.shown:
            return
        with _LOCK:  # a background task reports its progress too
            sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
            sys.stdout.flush()

    def warn(self, text: str) -> None:
        """Tell the user, on one line, that something is odd."""
        if self.shown:
            self.say("warning", role=self.role.value, message=text)
        else:
            sys.stderr.write(f"hybridface {self.role.value}: {escaped(text)}\n")

    def command(self, operation: str, is_done: bool, seconds: float) -> None:
        """Hear that a server has carried out a client's command, or refused it. Here nobody wants to know."""

    @property
    def on_progress(self) -> OnProgress:
        """The function that a session calls when a step begins."""

        def report(progress: Progress) -> None:
            self.say("progress", role=self.role.value, **asdict(progress))

        return report


class HeardEvents(Events):
    """Hand events to a function, in this process.

    Args:
        role: the party's role.
        hear: called with each event, also from a background thread.
    """

    def __init__(self, role: Role, hear: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(role, True)
        self._hear = hear

    def say(self, event: str, **fields: Any) -> None:
        """Hand on an event."""
        with _LOCK:
            self._hear({"event": event, **fields})
