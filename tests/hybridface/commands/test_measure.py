"""`calibrate`, `plan` and `bench` with batches, pools, workers and caches: their JSON, on the tiny network."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hybridface as hf
from hybridface.commands import main as cli
from hybridface.measure.cost import workers
from protocols.linear.planner import CostModel, bytes_down, bytes_up
from protocols.network.private import plan_network
from support.ranks import Done

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
HEADERS = 4 * 16 + 8 * (1 + 5 + 3 + 3)
"""Of a layer's four messages."""


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("chips") / "a.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def command(call: Callable[..., Done]) -> Command:
    """Run the command line, which must succeed in silence; returns its JSON."""

    def run(*arguments: str) -> Any:
        status, out, errors = call(*arguments, "--json")
        assert (status, errors) == (0, "")
        return json.loads(out)

    return run


def test_measured_bytes_are_the_predicted_ones(command: Command) -> None:
    document = command("plan", "tiny-test", "--link", "lan")
    assert document["link"] == "lan"
    for layer in document["layers"]:
        assert round(1e6 * (layer["measured_mb"] - layer["predicted_mb"])) == HEADERS, layer["name"]
        assert layer["measured_ms"] > 0


def test_a_plan_without_measuring_takes_what_calibrate_wrote(command: Command, tmp_path: Path) -> None:
    cache = ["--cache", str(tmp_path)]
    times = command("calibrate", *cache)
    assert set(times) == set(CostModel.__dataclass_fields__) - {"link"}
    assert min(times.values()) > 0
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert {name: written[name] for name in written if name != "sha256"} == times
    document = command("plan", "tiny-test", "--no-measure", *cache)
    assert document["constants_ms"] == times
    plans = plan_network(hf.load_model("tiny-test", weights=False).graph, cost=CostModel(**times))
    assert [layer["name"] for layer in document["layers"]] == list(plans)
    assert document["total"]["measured_ms"] is None
    for layer, plan in zip(document["layers"], plans.values(), strict=True):
        assert layer["predicted_mb"] == pytest.approx((bytes_up(plan) + bytes_down(plan)) / 1e6)
        assert layer["measured_mb"] is None


def test_peers_are_measured_beside_each_other(command: Command, chip: str, tmp_path: Path) -> None:
    ours = ["--model", "tiny-test", "--aligned", "--runs", "1", "--output", str(tmp_path / "peers.json")]
    document = command("bench", "peers", chip, chip, *ours, "--spu", sys.executable)
    not_measured = {peer["name"]: peer["not_measured"] for peer in document["peers"] if peer["not_measured"]}
    assert len(document["peers"]) == 5
    assert len(not_measured) == 1, "this Python has no SPU"
    assert json.loads((tmp_path / "peers.json").read_text()) == document


def test_calibrating_into_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("parties.machine.calibration.calibrate", lambda on_step: CostModel())
    monkeypatch.setattr(sys, "argv", ["hybridface", "calibrate", "--cache", str(tmp_path / "file" / "x"), "--quiet"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    message = "hybridface: cannot write calibration.json to the cache folder: Not a directory\n"
    assert capsys.readouterr().err == message


def bench(command: Command, chip: str, *options: str) -> Any:
    return command("bench", "verify", chip, chip, "--model", "tiny-test", "--aligned", *options)


@pytest.mark.slow
def test_benchmarks_of_a_batch_and_of_one_with_a_pool(command: Command, chip: str, tmp_path: Path) -> None:
    three = bench(command, chip, "--batch", "3", "--runs", "1", "--cache", str(tmp_path))
    assert (three["runs"], three["batch"], three["prepared"]) == (1, 3, 0)
    assert len(list(tmp_path.glob("*.weights"))) == 1
    one = bench(command, chip, "--pool", "1", "--pause", "1.5", "--runs", "3", "--cache", "none")
    assert one["prepared"] >= 2, "the first may come before the pool is full"
    assert one["figures"]["offline_seconds"]["max"] > 0
    assert len(list(tmp_path.glob("*"))) == 1
    rounds, up = (
        [document["figures"][f"online_{key}"]["median"] for document in (one, three)] for key in ("rounds", "MB_up")
    )
    assert rounds[0] == rounds[1]
    assert 2 < up[1] / up[0] < 3


def test_a_benchmark_of_workers(command: Command, tmp_path: Path) -> None:
    options = ["--model", "tiny-test", "--runs", "1", "--ranks", "2", "--cache", str(tmp_path)]
    document = command("bench", "workers", *options)
    assert (document["model"], document["runs"], list(document["workers"])) == ("tiny-test", 1, ["1", "2"])
    for stages in document["workers"].values():
        assert list(stages) == ["unpack", "multiply-accumulate", "mask", "all"]
        assert all(0 < row["min"] <= row["median"] <= row["max"] for row in stages.values())
    alone = document["workers"]["1"]
    assert sum(row["median"] for row in alone.values()) < 2 * alone["all"]["median"], "stages are parts of all"
    assert all(row["speedup"] == 1 for row in alone.values())
    assert len(list(tmp_path.glob("*.weights"))) == 1


def test_twice_as_fast_is_a_speedup_of_two(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_run_ranks", lambda model, count, runs, cache: {"all": [3.0 / count, 6.0 / count]})
    document = command("bench", "workers", "--model", "tiny-test", "--runs", "2", "--ranks", "3", "--cache", "none")
    assert [stages["all"]["speedup"] for stages in document["workers"].values()] == pytest.approx([1.0, 2.0, 3.0])


def test_a_verification_with_workers(command: Command, chip: str) -> None:
    document = command("verify", chip, chip, "--model", "tiny-test", "--aligned", "--workers", "1", "--costs")
    assert document["match"] is True
    assert set(document["costs"]["peak_bytes"]) == {"client", "server", "worker"}


@pytest.mark.slow
def test_a_benchmark_of_identification(command: Command) -> None:
    document = command("bench", "identify", "--sizes", "64", "--runs", "4", "--kind", "list")
    assert list(document["kinds"]) == ["list"]
    row = document["kinds"]["list"]["sizes"]["64"]
    assert (row["right"], row["found"]) == ([5, 5], 3), "a near one, two real ones; one real and one far are not"
    assert row["online_seconds"]["min"] <= row["online_seconds"]["median"] <= row["online_seconds"]["max"]
    assert (document["correlations"], list(row["peak_MiB"])) == ("ot", ["client", "server"])
    assert all(peak > 0 for peak in row["peak_MiB"].values())
    assert row["online_rounds"] > 4 * 6, "four for every level of the tournament"
    assert "fit" not in document["kinds"]["list"], "one size shows no growth"
