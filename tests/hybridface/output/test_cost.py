"""Reports: the cost table shows the figures, layers group by kind, decisions are words."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from hybridface.measure.cost.verify import bench_table, summarise
from hybridface.models.model import Model, load_model
from hybridface.output.cost import cost_table, decision_text, pure_he_document, result_document, score_text
from hybridface.processes.start import Outcome, _first_cause
from parties.session.client import MatchResult
from parties.session.cost import OFFLINE, ONLINE, CostReport, StageCost, merge
from parties.session.pure_he import PureHeResult
from protocols.document import Document

STAGES = (
    StageCost(OFFLINE, "keys and weights", 1.25, 2.5, 3.75, 4_250_000, 0, 60_000, 4),
    StageCost(ONLINE, "conv", 0.5, 0.25, 1.0, 1_000_000, 2_000_000, 0, 2),
    StageCost(ONLINE, "block_conv1", 0.5, 0.5, 1.0, 3_000_000, 1_000_000, 0, 2),
    StageCost(ONLINE, "relu", 0.125, 0.25, 0.5, 20_000, 20_000, 0, 6),
    StageCost(ONLINE, "fc", 0.0, 0.0, 0.0, 500_000, 0, 0, 2),
    StageCost(ONLINE, "distance and threshold", 0.0, 0.0, 0.0, 0, 0, 0, 8),
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("tiny-test", weights=False)


def rendered(table: Table) -> list[list[str]]:
    """Return a table's lines as printed, each split into words."""
    out = io.StringIO()
    Console(file=out, width=120).print(table)
    return [line.split() for line in out.getvalue().splitlines()]


def row(lines: list[list[str]], *first: str) -> list[str]:
    """Return the figures of the only line that begins with these words."""
    (found,) = [line for line in lines if tuple(line[: len(first)]) == first]
    return found[len(first) :]


def test_cost_table_by_kind_of_layer(model: Model) -> None:
    lines = rendered(cost_table(CostReport(STAGES), model))
    assert row(lines, "keys", "and", "weights") == ["1.25", "2.50", "3.75", "4.25", "0.00", "0.06", "4"]
    assert row(lines, "convolutions", "(2)") == ["1.00", "0.75", "2.00", "4.00", "3.00", "0.00", "4"]
    assert row(lines, "ReLU", "(1)") == ["0.12", "0.25", "0.50", "0.02", "0.02", "0.00", "6"]
    assert row(lines, "fully", "connected", "(1)")[3] == "0.50"
    assert row(lines, "distance", "and", "threshold")[-1] == "8"
    totals = [line for line in lines if line[:1] == ["total"]]
    assert [line[-1] for line in totals] == ["4", "20"]
    assert totals[1][1:] == ["1.12", "1.00", "2.50", "4.52", "3.02", "0.00", "20"]
    assert lines.index(["offline"]) < lines.index(["online"])


def test_cost_table_by_layer(model: Model) -> None:
    lines = rendered(cost_table(CostReport(STAGES), model, layers=True))
    assert row(lines, "block_conv1") == ["0.50", "0.50", "1.00", "3.00", "1.00", "0.00", "2"]
    assert not [line for line in lines if "convolutions" in line]


def test_cost_table_without_a_phase(model: Model) -> None:
    lines = rendered(cost_table(CostReport(STAGES[:1]), model))
    assert ["offline"] in lines
    assert ["online"] not in lines


def test_names_that_the_server_made_up_are_only_text(model: Model) -> None:
    made_up = merge(STAGES, Document({"stages": [[ONLINE, "[/bold]", 1.0, 2]]}, "cost"))
    assert row(rendered(cost_table(made_up, model)), "[/bold]")[1] == "1.00"


def test_result_document(model: Model) -> None:
    document = result_document(MatchResult((False,), CostReport(STAGES)), model, "both")
    assert {key: document[key] for key in ("match", "model", "reveal")} == {
        "match": False,
        "model": "tiny-test",
        "reveal": "both",
    }
    assert document["cost"]["online"]["rounds"] == 20
    assert (document["matches"], document["was_prepared"]) == ([False], True)


def test_a_score_comes_with_its_warning(model: Model) -> None:
    document = pure_he_document(PureHeResult(True, 0.25, CostReport(STAGES)), model)
    assert (document["match"], document["matches"], document["mode"]) == (True, [True], "pure-he")
    assert document["score"]["squared_distance"] == 0.25
    assert document["score"]["threshold"] == pytest.approx(model.threshold**2)
    text = score_text(0.25, 2.0)
    assert text.startswith("Squared distance 0.2500, threshold 4.0000. ")
    assert "secret key" in text
    assert document["score"]["warning"] in text


@pytest.mark.parametrize(
    ("matches", "match"),
    [((True, True), True), ((True, False), False), ((None, None), None), ((True, None, False), False)],
)
def test_the_decision_of_a_batch_is_that_of_all_images(
    model: Model, matches: tuple[bool | None, ...], match: bool | None
) -> None:
    document = result_document(MatchResult(matches, CostReport(STAGES), was_prepared=False), model, "client")
    assert document["match"] is match
    assert (document["matches"], document["was_prepared"]) == (list(matches), False)


def test_decisions_in_words() -> None:
    assert [decision_text(match) for match in (True, False, None)] == [
        "same person",
        "different people",
        "not revealed to this party",
    ]


def outcome_of(*matches: bool | None, decision: bool | None = None) -> Outcome:
    common = {"model": "tiny-test", "was_prepared": True, "mode": "hybrid"}
    results = [{"match": match, **common, "cost": CostReport(STAGES).document()} for match in matches]
    return Outcome(results, decision, {"server": 3 * 2**20, "client": 2**21})


def test_the_outcome_is_whoever_learned_it() -> None:
    assert outcome_of(False, True).match is True
    assert outcome_of(None, decision=False).match is False
    assert outcome_of(None).match is None
    assert Outcome().match is None


def test_the_first_cause_is_not_a_peers_echo() -> None:
    echo = {"role": "client", "message": "server ended: no weights", "from_peer": True}
    cause = {"role": "server", "message": "no weights", "from_peer": False}
    assert _first_cause([echo, cause]) == "server: no weights"
    assert _first_cause([echo]) == "client: server ended: no weights"


def test_benchmark_summary() -> None:
    outcome = outcome_of(True, True, True)
    outcome.results[1]["was_prepared"] = False
    outcome.resident = {"client": [2**20, 2**21, 2**22, 2**23], "server": [2**23] * 3}
    for result, seconds in zip(outcome.results, (5.0, 1.0, 2.0), strict=True):
        result["cost"]["online"]["elapsed_seconds"] = seconds
    summary = summarise(outcome)
    assert summary["runs"] == 3
    assert summary["figures"]["online seconds"] == {"median": 2.0, "min": 1.0, "max": 5.0}
    assert summary["figures"]["online MB up"]["median"] == pytest.approx(4.52)
    assert summary["peak_mib"] == {"client": 2.0, "server": 3.0}
    assert summary["resident_mib"]["client"] == {"first": 2.0, "last": 8.0}, (
        "after the first of three runs, and the last"
    )
    assert (summary["prepared"], summary["batch"]) == (2, 1)
    assert bench_table(summarise(outcome, batch=3)).title == "hybrid, tiny-test, 3 photos against a template, 3 runs"
    lines = rendered(bench_table(summary))
    assert bench_table(summary).title == "hybrid, tiny-test, one photo against a template, 3 runs"
    assert (
        bench_table(summarise(outcome, "wan")).title == "hybrid, tiny-test, one photo against a template, 3 runs, wan"
    )
    assert row(lines, "online", "seconds") == ["2.00", "1.00", "5.00"]
    assert row(lines, "offline", "MB", "from", "and", "to", "the", "dealer") == ["0.06", "0.06", "0.06"]
    assert row(lines, "resident", "after", "run", "1", "and", "the", "last,", "client,", "MiB") == ["2", "8"]
    assert row(lines, "runs", "that", "were", "prepared", "ahead") == ["2"]
    assert row(lines, "peak", "memory", "of", "the", "server,", "MiB") == ["3"]


def test_benchmark_summary_of_a_mode_without_offline_work() -> None:
    outcome = outcome_of(True)
    outcome.results[0]["mode"] = "pure-he"
    outcome.setup = {"elapsed_seconds": 3.5, "bytes_up": 50_000_000}
    outcome.resident = {"client": [2**20], "server": [2**20]}
    summary = summarise(outcome)
    assert not [name for name in summary["figures"] if name.startswith("offline")]
    lines = rendered(bench_table(summary))
    assert row(lines, "keys,", "once:", "seconds") == ["3.50"]
    assert row(lines, "keys,", "once:", "MB", "up") == ["50.00"]
    assert not [line for line in lines if "prepared" in line]
