"""The service's log: each event is one line of JSON, whatever is in it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hybridface.service.logs import LEVELS, ServiceLog
from protocols.errors import ParameterError


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, errors = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in errors.splitlines()]


def write_all(log: ServiceLog) -> None:
    for level in LEVELS:
        getattr(log, level)("door", why=level)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_hides_those_below(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(ServiceLog(level))
    assert [line["level"] for line in lines(capsys)] == list(LEVELS[LEVELS.index(level) :])


def test_the_level_changes_while_the_service_runs(capsys: pytest.CaptureFixture[str]) -> None:
    log = ServiceLog("error")
    log.set_level("debug")
    write_all(log)
    log.set_level("warning")
    write_all(log)
    assert [line["level"] for line in lines(capsys)] == [*LEVELS, "warning", "error"]


@pytest.mark.parametrize("level", ["", "INFO", "critical", "10"])
def test_other_levels_are_refused_and_the_level_stays(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ParameterError, match="expected a level of debug, info, warning, error, got"):
        ServiceLog(level)
    log = ServiceLog("error")
    with pytest.raises(ParameterError, match="expected a level"):
        log.set_level(level)
    write_all(log)
    assert [line["level"] for line in lines(capsys)] == ["error"]


def test_a_line_has_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLog("info").info("session opened", session="ab", process=3, client=None)
    (line,) = lines(capsys)
    written = datetime.fromisoformat(line.pop("time"))
    assert written.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert list(line.items()) == [
        ("level", "info"), ("event", "session opened"), ("session", "ab"), ("process", 3), ("client", None),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", '"}', "100 %s", "\x7f", "\x9b", "\u2028", "名前", "\ud800"])
def test_a_peers_text_stays_within_its_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLog("info").info(text, why=text)
    written = capsys.readouterr().err
    assert written.endswith("\n")
    assert written[:-1].isascii()
    assert written[:-1].isprintable()
    line = json.loads(written)
    assert (line["event"], line["why"]) == (text, text)


def test_a_field_takes_no_place_of_the_events_own(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLog("info").info("door", level="debug", time="never")
    (line,) = lines(capsys)
    assert (line["level"], line["event"]) == ("info", "door")
    assert line["time"] != "never"


def test_what_json_has_no_form_for_is_written_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLog("info").info("reload", path=Path("/srv/x"))
    assert lines(capsys)[0]["path"] == "/srv/x"
