"""Events: what a rank reports to the command that started it, as JSON lines on standard output, one per event."""

import json
import sys
import threading
from dataclasses import asdict
from typing import Any

from hybridface.errors import escaped
from parties.session.progress import OnProgress, Progress
from parties.transport.roles import Role

__all__ = ["Events"]

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

    @property
    def on_progress(self) -> OnProgress:
        """The function that a session calls when a step begins."""

        def report(progress: Progress) -> None:
            self.say("progress", role=self.role.value, **asdict(progress))

        return report
