"""Events of a party: lines of a rank, words for a person, or calls in the command's own process."""

import json
import threading
from typing import Any

import pytest

from hybridface.processes.events import Events, HeardEvents
from parties.session.progress import Progress
from parties.transport.roles import Role

PROGRESS = Progress("online", "conv", 1, 3)


def test_a_rank_writes_one_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    events = Events(Role.CLIENT, True)
    events.say("result", match=True)
    events.warn("odd\nnews")
    events.on_progress(PROGRESS)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "result", "match": True},
        {"event": "warning", "role": "client", "message": "odd\nnews"},
        {"event": "progress", "role": "client", "phase": "online", "stage": "conv", "index": 1, "total": 3},
    ]
    assert err == ""


def test_without_a_reader_only_warnings_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    events = Events(Role.SERVER, False)
    events.say("result", match=True)
    events.on_progress(PROGRESS)
    events.command("verify", True, 0.1)
    events.warn("odd\nnews \x1b[2J")
    assert capsys.readouterr() == ("", "hybridface server: odd\\nnews \\x1b[2J\n")


def test_a_function_hears_events_in_place_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[dict[str, Any]] = []
    events = HeardEvents(Role.CLIENT, heard.append)
    assert events.shown
    events.say("result", match=False)
    events.warn("odd")
    events.on_progress(PROGRESS)
    assert heard == [
        {"event": "result", "match": False},
        {"event": "warning", "role": "client", "message": "odd"},
        {"event": "progress", "role": "client", "phase": "online", "stage": "conv", "index": 1, "total": 3},
    ]
    assert capsys.readouterr() == ("", "")


def test_a_function_hears_one_event_at_a_time() -> None:
    """Background threads report their progress too."""
    inside, most = 0, 0
    over = threading.Barrier(4)

    def hear(event: dict[str, Any]) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.001)
        inside -= 1

    events = HeardEvents(Role.CLIENT, hear)

    def say() -> None:
        over.wait(20)
        for _ in range(5):
            events.say("progress")

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (inside, most) == (0, 1)


def test_an_error_of_the_function_ends_the_party_and_nothing_else() -> None:
    def fail(event: dict[str, Any]) -> None:
        raise ValueError("full")

    events = HeardEvents(Role.CLIENT, fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="full"):
            events.say("result")
