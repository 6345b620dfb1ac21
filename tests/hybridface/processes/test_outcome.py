"""An outcome takes what each event reports."""

from typing import Any

import pytest

from hybridface.processes.outcome import Outcome


def outcome_of(*events: dict[str, Any]) -> Outcome:
    """Return the outcome of a run that reports these events."""
    outcome = Outcome()
    for event in events:
        outcome.add(event)
    return outcome


def test_results_and_answers_are_kept_in_order() -> None:
    results = [{"event": "result", "match": match, "cost": {}} for match in (True, False)]
    answers = [{"event": "answer", "verb": "list", "enrolled": {}}, {"event": "answer", "verb": "verify"}]
    outcome = outcome_of(results[0], answers[0], results[1], answers[1])
    assert outcome.results == [{"match": True, "cost": {}}, {"match": False, "cost": {}}]
    assert outcome.answers == [{"verb": "list", "enrolled": {}}, {"verb": "verify"}]
    assert outcome.match is False


@pytest.mark.parametrize("match", [True, False])
def test_the_decision_is_of_whoever_learned_it(match: bool) -> None:
    hidden = {"event": "result", "match": None}
    assert outcome_of(hidden).match is None
    assert outcome_of(hidden, {"event": "decision", "match": match}).match is match
    assert outcome_of({"event": "decision", "match": not match}, {"event": "result", "match": match}).match is match
    assert outcome_of().match is None


@pytest.mark.parametrize(("found", "match"), [([None, "Ann"], True), ([None], False), ([], False)])
def test_an_identification_decides_whether_anybody_is_found(found: list[str | None], match: bool) -> None:
    outcome = outcome_of({"event": "identified", "identities": found})
    assert (outcome.found, outcome.decision) == (tuple(found), match)


def test_costs_are_kept() -> None:
    outcome = outcome_of(
        {"event": "setup", "seconds": 1.0},
        {"event": "setup", "seconds": 2.0},
        {"event": "kept", "run": 1},
        {"event": "kept", "run": 2},
        {"event": "memory", "role": "worker", "peak_bytes": 7},
        {"event": "memory", "role": "worker", "peak_bytes": 5},
        {"event": "memory", "role": "server", "peak_bytes": 3},
        {"event": "resident", "role": "client", "bytes": 4},
        {"event": "resident", "role": "server", "bytes": 6},
        {"event": "resident", "role": "client", "bytes": 5},
    )
    assert outcome.setup == {"seconds": 2.0}
    assert outcome.kept == [{"run": 1}, {"run": 2}]
    assert outcome.memory == {"worker": 7, "server": 3}
    assert outcome.resident == {"client": [4, 5], "server": [6]}


def test_other_events_change_nothing_and_no_event_is_changed() -> None:
    event = {"event": "result", "match": True}
    assert outcome_of({"event": "progress", "stage": "conv"}, {"event": "warning"}, {"event": "new"}) == Outcome()
    outcome_of(event)
    assert event == {"event": "result", "match": True}
