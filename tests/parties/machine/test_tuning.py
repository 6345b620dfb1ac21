"""The settings of a rank's process: they fail nowhere, and the timer's slack is what the system says it is."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from parties.machine import tuning
from support.paths import ROOT

SLACK = Path("/proc/self/timerslack_ns")
TUNE = f"""
from pathlib import Path
from parties.machine.tuning import tune_process
tune_process()
tune_process()
slack = Path({str(SLACK)!r})
print(slack.read_text().strip() if slack.exists() else "none")
"""


@pytest.mark.slow
def test_the_timer_slack_of_a_tuned_process() -> None:
    """In a process of its own, so that this one stays as it is."""
    done = subprocess.run([sys.executable, "-c", TUNE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == ("1000" if SLACK.exists() else "none")


def test_a_system_without_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    tuning.tune_process()


def test_a_system_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        asked: list[tuple[int, ...]]

        def prctl(self, *arguments: int) -> int:
            self.asked.append(arguments)
            return -1

        def mallopt(self, *arguments: int) -> int:
            self.asked.append(arguments)
            return 0

    Refusing.asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Refusing())
    tuning.tune_process()
    assert len(Refusing.asked) == 4
