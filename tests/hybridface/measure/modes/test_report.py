"""Every mode beside each other: samples, computed networks, the plan, accuracy, output, the command, real processes."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridface.errors import RunError
from hybridface.measure import modes as modes_report
from hybridface.measure.accuracy import measured_accuracy
from hybridface.measure.modes import Settings, measure_modes, modes_document, modes_table, report_paths, write_report
from hybridface.measure.modes import measure as measure_module
from hybridface.measure.modes import sessions as sessions_module
from hybridface.measure.modes.accuracy import KnownAccuracy, accuracy_of, read_accuracy, shipped_accuracy
from hybridface.measure.modes.measure import Measurement
from hybridface.measure.modes.samples import (
    Sample,
    Session,
    Setup,
    Stage,
    Traffic,
    WorkKind,
    kinds_of_layers,
    over_network,
    sample_in_turns,
    sample_of_cost,
)
from hybridface.measure.modes.sessions import start_session
from hybridface.measure.modes.ways import PRIVACY, WAYS, ReportMode, Way
from hybridface.measure.peers import make_task
from hybridface.measure.peers.features_only import FeaturesOnlySession
from hybridface.models.model import load_model
from hybridface.photos import photo_path
from parties.session.cost import CostReport, StageCost
from protocols.errors import ParameterError
from protocols.link import LAN, MOBILE, NONE, WAN
from support.modes_measurements import KNOWN, document, measurements, settings
from support.paths import ROOT
from support.ranks import Done, ranks_in_threads

pytestmark = pytest.mark.slow

PHOTOS = (photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg"))
HYBRID, MPC = Way(ReportMode.HYBRID, "tiny-test"), Way(ReportMode.PURE_MPC, "tiny-test", simulated=False)

seconds = st.floats(0, 100)
stages = st.builds(
    StageCost,
    st.sampled_from(["offline", "online"]),
    st.sampled_from(["upload", "affine 1", "distance", "conv"]),
    seconds,
    seconds,
    seconds,
    *[st.integers(0, 10**9)] * 4,
)


@given(st.lists(stages, max_size=6))
def test_seconds_by_kind_add_up_to_the_elapsed_ones(costs: list[StageCost]) -> None:
    cost = CostReport(tuple(costs)).document()
    kinds = {"upload": WorkKind.UPLOAD, "distance": WorkKind.MATCHING, "conv": WorkKind.LINEAR}
    plain, turns = sample_of_cost(True, cost, kinds), sample_in_turns(True, cost, kinds)
    for phase in ("offline", "online"):
        assert plain.seconds(phase) == pytest.approx(cost[phase]["elapsed_seconds"])
    assert turns.seconds("online") == pytest.approx(cost["online"]["elapsed_seconds"])
    for sample in (plain, turns):
        for phase in ("offline", "online"):
            traffic = getattr(sample, phase)
            assert (traffic.bytes_up, traffic.bytes_down) == (cost[phase]["bytes_up"], cost[phase]["bytes_down"])
            assert (traffic.dealer_bytes, traffic.rounds) == (cost[phase]["dealer_bytes"], cost[phase]["rounds"])
        assert len({(stage.phase, stage.kind) for stage in sample.stages}) == len(sample.stages)


def test_waiting_is_what_neither_party_works_for() -> None:
    costs = (StageCost("online", "upload", 0.5, 0.25, 1.0), StageCost("online", "distance", 0.25, 2.0, 5.0))
    sample = sample_in_turns(
        True, CostReport(costs).document(), {"upload": WorkKind.UPLOAD, "distance": WorkKind.MATCHING}
    )
    found = {stage.kind: stage.seconds for stage in sample.stages}
    assert found == {WorkKind.UPLOAD: 0.75, WorkKind.MATCHING: 2.25, WorkKind.OTHER: 3.0}


def test_every_layer_has_a_kind() -> None:
    kinds = kinds_of_layers(load_model("tiny-test", weights=False).graph)
    expected = {
        "conv": WorkKind.LINEAR,
        "fc": WorkKind.LINEAR,
        "relu": WorkKind.ACTIVATION,
        "prelu": WorkKind.ACTIVATION,
    }
    expected |= {"pool": WorkKind.POOL, "average": WorkKind.OTHER}
    assert {name: kinds[name] for name in expected} == expected
    assert set(kinds_of_layers(load_model("patchnet", weights=False).graph).values()) == {
        WorkKind.LINEAR,
        WorkKind.ACTIVATION,
        WorkKind.OTHER,
    }


def session(online: float, traffic: Traffic, match: bool = True) -> Session:
    return Session((Sample(match, (Stage("online", WorkKind.LINEAR, online),), traffic),), {"client": 5}, None)


@pytest.mark.parametrize("link", [LAN, WAN, MOBILE], ids=lambda link: link.name)
def test_a_computed_network_adds_delays_and_the_busier_direction(link: Any) -> None:
    before = session(2.0, Traffic(3_000_000, 5_000_000, 0, rounds=7))
    (sample,) = over_network(before, link).samples
    link = 7 * link.delay_seconds + 5_000_000 * 8 / link.bits_per_second
    assert sample.seconds("online") == pytest.approx(2.0 + link)
    assert {stage.kind: stage.seconds for stage in sample.stages} == {
        WorkKind.LINEAR: 2.0,
        WorkKind.TRANSFER: pytest.approx(link),
    }
    assert sample.seconds("offline") == 0
    assert sample.online == before.samples[0].online


def test_no_network_adds_nothing() -> None:
    before = session(2.0, Traffic(3_000_000, 5_000_000, 0, rounds=7))
    assert over_network(before, NONE) == before


class Fake:
    """Starts sessions that take no time, and keeps their order."""

    def __init__(self, fail: Callable[[Way, Any], bool] = lambda way, link: False) -> None:
        self.started: list[tuple[str, str]] = []
        self._fail = fail

    def __call__(self, way: Way, task: Any, verifications: int, link: Any, timeout: float) -> Session:
        self.started.append((way.name, link.name))
        if self._fail(way, link):
            raise RunError("server: it broke")
        setup = Setup(float(len(self.started)), 10, 20) if way == HYBRID else None
        return replace(session(float(len(self.started)), Traffic(8, 8, 0, 1)), setup=setup)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fake]:
    def install(**options: Any) -> Fake:
        found = Fake(**options)
        monkeypatch.setattr(measure_module, "start_session", found)
        monkeypatch.setattr(measure_module, "make_task", lambda model, photos: None)
        monkeypatch.setattr(measure_module, "load_model", lambda name: name)
        return found

    return install


def test_rounds_are_interleaved_and_what_cannot_simulate_runs_once_a_round(fake: Callable[..., Fake]) -> None:
    starts, seen = fake(), []
    found = measure_modes(Settings(PHOTOS, (NONE, WAN), 2, 1), lambda *step: seen.append(step), (HYBRID, MPC))
    one_round = [(HYBRID.name, "none"), (MPC.name, "none"), (HYBRID.name, "wan")]
    assert starts.started == one_round * 2
    assert seen[2] == (f"{HYBRID.name} over wan", 2, 6)
    rows = {(m.way.mode, m.link.name): m for m in found}
    assert [m.status for m in found] == ["measured", "measured", "measured", "computed"]
    assert [len(m.sessions) for m in found] == [2] * 4
    assert rows[ReportMode.HYBRID, "wan"].setups == [Setup(3.0, 10, 20), Setup(6.0, 10, 20)], "one a round"
    assert rows[ReportMode.PURE_MPC, "wan"].setups == []
    near, far = (rows[ReportMode.PURE_MPC, name].sessions[0].samples[0].seconds("online") for name in ("none", "wan"))
    assert far == pytest.approx(near + WAN.transfer_seconds(8, 1))


def test_without_the_network_none_it_is_computed_from_a_measurement_without(fake: Callable[..., Fake]) -> None:
    starts = fake()
    (found,) = measure_modes(Settings(PHOTOS, (MOBILE,), 1, 1), ways=(MPC,))
    assert starts.started == [(MPC.name, "none")]
    assert found.status == "computed"


def test_what_fails_is_not_tried_again_and_stops_nothing(fake: Callable[..., Fake]) -> None:
    starts = fake(fail=lambda way, link: way == MPC or link == WAN)
    found = measure_modes(Settings(PHOTOS, (NONE, WAN), 3, 1), ways=(HYBRID, MPC))
    assert [(m.status, m.reason) for m in found] == [
        ("measured", None),
        ("failed", "server: it broke"),
        ("failed", "server: it broke"),
        ("failed", "server: it broke"),
    ]
    assert len(starts.started) == 3 + 1 + 1
    made = modes_document(found, settings(["none", "wan"]), (), "command")
    assert made["measurements"][1]["figures"] is None
    cells = [str(cell) for column in modes_table(made).columns for cell in column.cells]
    assert cells.count("failed: server: it broke") == 3


@pytest.mark.parametrize(
    ("links", "rounds", "message"),
    [
        ((), 1, "expected links, each once, got none"),
        ((WAN, WAN), 1, "expected links, each once, got wan, wan"),
        ((WAN,), 0, "expected at least 1 round and verification, got 0, 1"),
    ],
)
def test_wrong_settings(links: Any, rounds: int, message: str) -> None:
    with pytest.raises(ParameterError, match=f"^{message}$"):
        Settings(PHOTOS, links, rounds, 1)


def test_the_document_has_medians_all_samples_and_no_names_of_places() -> None:
    chosen = settings(["none", "wan"], ("folder/a.jpg", "/secret/place/b.jpg"))
    made = modes_document(measurements(chosen), chosen, KNOWN, "hybridface bench modes")
    assert json.loads(json.dumps(made)) == made
    row = made["measurements"][2]
    online = [sum(s["seconds"] for s in sample["stages"] if s["phase"] == "online") for sample in row["samples"]]
    ordered = sorted(online)
    assert len(online) == 4
    assert row["figures"]["online"]["seconds"] == {
        "median": pytest.approx((ordered[1] + ordered[2]) / 2),
        "min": ordered[0],
        "max": ordered[-1],
    }
    bar = sum(stage["seconds"] for stage in row["stages"] if stage["phase"] == "online")
    assert bar == pytest.approx(row["figures"]["online"]["seconds"]["median"])
    text = json.dumps(made)
    assert made["photos"] == ["a.jpg", "b.jpg"]
    assert set(made["privacy"]) == {mode.value for mode in ReportMode}
    for secret in ("/secret", "folder/", os.uname().nodename, str(Path.home()), str(ROOT)):
        assert secret not in text


def test_every_way_has_its_privacy_told() -> None:
    assert {way.mode for way in WAYS} == set(PRIVACY) == set(ReportMode)
    assert len({way.name for way in WAYS}) == len(WAYS)


def result(**changes: Any) -> dict[str, Any]:
    return {"model": "patchnet", "mode": "plain", "pairs": 1200, "accuracy": 0.889, "accuracy_se": 0.009} | changes


def test_results_of_the_evaluation_are_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result(more=1)))
    assert read_accuracy([path]) == [KnownAccuracy("plain", "patchnet", 1200, 0.889, 0.009)]
    path.write_text(json.dumps(result(mode="pure-he", accuracy=None, accuracy_se=None, differing_decisions=2)))
    assert read_accuracy([path]) == [KnownAccuracy("pure-he", "patchnet", 1200, None, None, 2)]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"model": 1}', json.dumps(result(accuracy=88.9)), json.dumps(result(pairs="x")), "NaN"],
)
def test_other_files_are_refused_on_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(
        ParameterError, match="^expected a result of `hybridface eval lfw` in .*result.json, got [^\n]*$"
    ):
        read_accuracy([path])
    with pytest.raises(ParameterError, match="got .*missing.json: No such file"):
        read_accuracy([tmp_path / "missing.json"])
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ParameterError, match="got .*pipe.json: expected a plain file"):
        read_accuracy([tmp_path / "pipe.json"])


def test_shipped_results_are_those_of_the_evaluation() -> None:
    shipped = [(d["mode"], d["model"], d["pairs"], d["accuracy"]) for d in measured_accuracy()]
    assert shipped
    assert [(a.mode, a.model, a.pairs, a.accuracy) for a in shipped_accuracy()] == shipped


def test_the_hybrids_accuracy_is_the_emulators_and_the_others_that_of_the_network() -> None:
    known = document(["none"])["accuracy"]
    shown = {way.name: accuracy_of(way.mode, way.model, known) for way in WAYS}
    values = {name: (found[0]["accuracy"], found[1]) for name, found in shown.items() if found}
    assert values["plain, dlib-resnet29"] == (0.9867, True)
    assert values["hybrid, dlib-resnet29"] == (0.9866, True)
    assert values["hybrid, patchnet"] == (0.889, False), "no emulator's result: that of the network in the clear"
    assert values["pure HE, patchnet"] == (0.889, False)
    assert accuracy_of("hybrid", "other", known) is None


def test_people_that_a_network_was_trained_on_do_not_make_its_accuracy() -> None:
    held_out, every = (7, 8), tuple(range(1, 9))
    results = [("plain", 4800, 0.92, every), ("plain", 1200, 0.89, held_out), ("plain", 60, 0.95, held_out)]
    known = [asdict(KnownAccuracy(mode, "patchnet", n, value, folds=folds)) for mode, n, value, folds in results]
    for some in (known, known[::-1]):
        found = accuracy_of("pure HE", "patchnet", some)
        assert found is not None
        assert (found[0]["accuracy"], found[0]["pairs"]) == (0.89, 1200)
    shipped = accuracy_of("pure HE", "patchnet", [asdict(entry) for entry in shipped_accuracy()])
    assert shipped is not None
    assert shipped[0]["folds"] == held_out


def test_output_goes_to_a_new_folder_or_a_file(tmp_path: Path) -> None:
    folder = report_paths(tmp_path / "new")
    assert (folder.page, folder.document) == (tmp_path / "new/report.html", tmp_path / "new/report.json")
    file = report_paths(tmp_path / "other.html")
    assert (file.page, file.document) == (tmp_path / "other.html", tmp_path / "other.json")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"], "nothing is left of the check"
    write_report(file, {"a": 1}, "<p>ü</p>")
    assert json.loads(file.document.read_text()) == {"a": 1}
    assert file.page.read_text(encoding="utf-8") == "<p>ü</p>"


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    paths = report_paths(tmp_path)
    write_report(paths, {"a": 1}, "old")
    with pytest.raises(TypeError):
        write_report(paths, {"a": object()}, "new")
    paths.document.unlink()
    paths.document.mkdir()
    with pytest.raises(ParameterError, match="^cannot write report.html: Is a directory$"):
        write_report(paths, {"a": 2}, "new")
    assert paths.page.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("output", ["file/below", "missing/folder", "missing/report.html", "a.html", "folder"])
def test_places_that_cannot_be_written(tmp_path: Path, output: str) -> None:
    (tmp_path / "file").touch()
    for name in ("a.html", "a.json", "folder", "folder/report.json"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.html").rmdir()
    with pytest.raises(ParameterError, match="^expected a place for .*: [^\n]+$"):
        report_paths(tmp_path / output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--links", "none,moon"], "expected a network named none, lan, wan or mobile, got 'moon'"),
        (["--links", "lan,lan"], "expected links, each once, got lan, lan"),
        (["--runs", "0"], "greater than or equal to 1"),
        (["nowhere.jpg"], "nowhere.jpg: expected a photo, found no such file"),
        (["--accuracy", "nowhere.json"], "expected a result of `hybridface eval lfw`, got nowhere.json: No such file"),
        (
            ["--output", "nowhere/report.html"],
            "expected a place for report.html, got nowhere/report.html: No such file",
        ),
    ],
)
def test_wrong_inputs_end_at_once(
    call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(modes_report, "measure_modes", lambda *_: pytest.fail("measured"))
    status, out, errors = call("bench", "modes", *arguments)
    assert (status, out) == (2, "")
    assert message in errors
    assert not (ROOT / "modes-report").exists()


def failing(chosen: Settings, on_step: Any) -> list[Measurement]:
    found = measurements(chosen)
    found[2] = Measurement(found[2].way, found[2].link, "failed", [], [], "server: it broke")
    return found


def test_the_command_writes_the_report_and_tells_a_failure(
    call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(modes_report, "measure_modes", failing)
    (tmp_path / "result.json").write_text(json.dumps(result()))
    options = [
        "--quick",
        "--runs",
        "2",
        "--accuracy",
        str(tmp_path / "result.json"),
        "--output",
        str(tmp_path),
        "--json",
    ]
    status, out, errors = call("bench", "modes", PHOTOS[1], *options)
    made = json.loads(out)
    assert status == 2
    assert errors == "hybridface: 1 of 16 measurements failed, the first: server: it broke\n"
    assert json.loads((tmp_path / "report.json").read_text()) == made
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    words = "hybridface bench modes person_b_2.jpg --runs 2 --links none,wan --accuracy result.json"
    assert made["command"] == words
    assert [link["name"] for link in made["links"]] == ["none", "wan"]
    assert made["photos"] == ["person_b_2.jpg", "person_b_2.jpg"]
    assert (made["rounds"], [entry["model"] for entry in made["accuracy"]]) == (2, ["patchnet"])


def test_samples_of_processes_that_other_tests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(load_model("tiny-test"), PHOTOS)
    layers = {node.name: 0.5 for node in task.model.graph.nodes} | {"distance and threshold": 0.25}
    run = {"match": task.match, "stages": layers, "bytes": 1000, "rounds": 7}
    monkeypatch.setattr(sessions_module, "crypten_runs", lambda task, runs, timeout: ([run] * runs, [5, 6]))
    mpc = start_session(MPC, task, 2, NONE, 1.0)
    assert mpc.memory == {"client": 5, "server": 6}
    assert [sample.online for sample in mpc.samples] == [Traffic(500, 500, 0, 7)] * 2
    assert mpc.samples[0].seconds("online") == sum(layers.values())
    assert {stage.kind for stage in mpc.samples[0].stages} >= {WorkKind.LINEAR, WorkKind.POOL, WorkKind.MATCHING}

    costs = (StageCost("online", "network in the clear", 1.0, 0.0, 1.0), StageCost("online", "distance", 0.5, 1.0, 2.5))
    setup = vars(StageCost("offline", "keys", elapsed_seconds=3.0, bytes_up=40, bytes_down=2))
    one = {"match": task.match, "cost": CostReport(costs).document()}
    answer = FeaturesOnlySession((one,), setup, [], {"client": 1, "server": 2})
    monkeypatch.setattr(sessions_module, "features_only_session", lambda *_: answer)
    way = Way(ReportMode.FEATURES_ONLY, "tiny-test")
    found = start_session(way, task, 1, NONE, 1.0)
    assert found.setup == Setup(3.0, 40, 2)
    kinds = {stage.kind: stage.seconds for stage in found.samples[0].stages}
    assert kinds == {WorkKind.CLEAR: 1.0, WorkKind.MATCHING: 1.5, WorkKind.OTHER: 1.0}

    run["match"] = not task.match
    with pytest.raises(RunError, match="^pure MPC, tiny-test: expected the decision of the network in the clear"):
        start_session(MPC, task, 1, NONE, 1.0)
    del run["rounds"]
    with pytest.raises(RunError, match="^pure MPC, tiny-test: expected the cost of a session, got KeyError: 'rounds'$"):
        start_session(MPC, task, 1, NONE, 1.0)


def test_a_small_network() -> None:
    ways = (Way(ReportMode.PLAIN, "tiny-test", simulated=False), HYBRID)
    with ranks_in_threads():
        found = measure_modes(Settings(PHOTOS, (LAN,), 1, 2), ways=ways)
    assert [m.reason for m in found] == [None] * 2
    plain, hybrid = modes_document(found, settings(["lan"]), (), "")["measurements"]
    assert [plain["status"], hybrid["status"]] == ["computed", "measured"]
    assert [len(row["samples"]) for row in (plain, hybrid)] == [2, 2]
    assert {stage["kind"] for stage in plain["stages"]} == {WorkKind.CLEAR, WorkKind.MATCHING, WorkKind.TRANSFER}
    expected = {WorkKind.CORRELATIONS, WorkKind.LINEAR, WorkKind.ACTIVATION, WorkKind.POOL, WorkKind.MATCHING}
    assert {stage["kind"] for stage in hybrid["stages"]} >= expected
    assert plain["figures"]["online"]["bytes_up"]["median"] == 3 * 16 * 16
    assert hybrid["figures"]["offline"]["dealer_bytes"]["median"] == 0
    assert set(hybrid["peak_bytes"]) == {"client", "server"}
    assert plain["setup"] is None
    assert hybrid["setup"]["bytes_up"] > 0
