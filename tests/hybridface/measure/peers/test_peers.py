"""The comparison with other ways to do the same: tiny network, and how each failure is told."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridface.errors import ModelError, RunError
from hybridface.measure.peers import (
    Peer,
    PeerResult,
    PeerTask,
    Run,
    compare,
    comparison_document,
    comparison_table,
    crypten_alone,
    make_task,
)
from hybridface.measure.peers.children import run_pair
from hybridface.measure.peers.crypten_alone import crypten_peer, crypten_runs
from hybridface.measure.peers.plaintext import plaintext_peer
from hybridface.measure.peers.spu_cheetah import spu_peer
from hybridface.models.model import load_model
from hybridface.photos import photo_path
from protocols.errors import ParameterError
from support.ranks import Done

pytestmark = pytest.mark.slow

PHOTOS = (photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg"))
FIXED_POINT = 1e-3
"""What 16 fractional bits leave of the tiny network's features, which are about 10."""


@pytest.fixture(scope="module")
def task() -> PeerTask:
    return make_task(load_model("tiny-test"), PHOTOS)


def fake_spu(folder: Path, program: str) -> Path:
    """Return an "interpreter" that runs a program of ours, in place of SPU's script, with that script's arguments."""
    source, interpreter = folder / "fake.py", folder / "fake-python"
    source.write_text(program)
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{source}" "$@"\n')
    interpreter.chmod(0o755)
    return interpreter


@pytest.fixture(scope="module")
def measured(task: PeerTask) -> tuple[list[dict[str, Any]], list[int]]:
    """What two real processes of CrypTen say of two runs."""
    return crypten_runs(task, 2)


@pytest.fixture
def once(measured: tuple[list[dict[str, Any]], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """CrypTen's processes are not started again."""
    runs, memory = measured
    monkeypatch.setattr(crypten_alone, "crypten_runs", lambda task, count, timeout: (runs[:count], memory))


@pytest.mark.usefixtures("once")
def test_crypten_alone_computes_the_network(task: PeerTask) -> None:
    run = crypten_peer(task).run()
    assert run.match == task.match
    assert 0 < run.max_error < FIXED_POINT
    relus = sum(np.prod(shape) for name, shape in task.model.graph.shapes().items() if "relu" in name)
    assert run.bytes_online is not None
    assert run.bytes_online > relus * 2 * 8 * 6, "a comparison opens two words each way in each of six steps"
    assert run.bytes_online % 8 == 0
    assert run.rounds is not None
    assert 20 < run.rounds < 300


def test_crypten_tells_the_seconds_of_every_layer(
    task: PeerTask, measured: tuple[list[dict[str, Any]], list[int]]
) -> None:
    runs, memory = measured
    assert len(runs) == len(memory) == 2
    assert min(memory) > 2**26
    for run in runs:
        assert list(run["stages"]) == [*(node.name for node in task.model.graph.nodes), "distance and threshold"]
        assert min(run["stages"].values()) > 0
        assert sum(run["stages"].values()) == pytest.approx(run["seconds"])


def test_plaintext_is_exact_to_float32_and_leaves_the_threads_alone(task: PeerTask) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    run = plaintext_peer(task).run()
    assert run.match == task.match
    assert 0 < run.max_error < 1e-5
    assert (run.bytes_online, run.rounds, run.offline_seconds) == (None, None, None)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("once")
def test_the_command_writes_all_runs_and_the_machine(call: Callable[..., Done], tmp_path: Path) -> None:
    spu = fake_spu(tmp_path, "import sys; sys.exit('no SPU in this environment')")
    output = tmp_path / "peers.json"
    arguments = ["--model", "tiny-test", "--runs", "1", "--json", "--spu", str(spu), "--output", str(output)]
    status, out, errors = call("bench", "peers", *arguments)
    assert (status, errors) == (0, "")
    document = json.loads(out)
    assert json.loads(output.read_text()) == document
    assert (document["model"], document["runs"], document["photos"]) == ("tiny-test", 1, [p.name for p in PHOTOS])
    assert {"processor", "cores", "load", "python", "versions"} <= set(document["machine"])
    assert {"torch", "crypten", "tenseal"} <= set(document["machine"]["versions"])
    rows = {peer["name"]: peer for peer in document["peers"]}
    assert list(rows) == ["plaintext torch", "hybridface", "hybridface, dealer", "CrypTen alone", "SPU Cheetah"]
    assert [len(row["runs"]) for row in rows.values()] == [1, 1, 1, 1, 0]
    for name in ("hybridface", "hybridface, dealer", "CrypTen alone"):
        assert rows[name]["figures"]["max_error"]["median"] < FIXED_POINT
        assert rows[name]["figures"]["online_MB"]["median"] == rows[name]["runs"][0]["bytes_online"] * 1e-6
    assert rows["hybridface"]["ratio_to_hybridface"] == 1
    assert rows["hybridface"]["figures"]["offline_seconds"]["median"] > 0
    ours = rows["hybridface"], rows["hybridface, dealer"]
    assert len({row["runs"][0]["rounds"] for row in ours}) == 1, "online work is the same"
    assert rows["CrypTen alone"]["ratio_to_hybridface"] > 0
    assert "insecure" in rows["CrypTen alone"]["security"]
    reason = rows["SPU Cheetah"]["not_measured"]
    assert reason.startswith("SPU Cheetah: process ")
    assert reason.endswith("ended with status 1: no SPU in this environment")


def test_spu_is_given_each_party_its_own(task: PeerTask, tmp_path: Path) -> None:
    spu = fake_spu(
        tmp_path,
        """
import json, signal, sys
import numpy as np
script, rank, first, second, folder, seconds = sys.argv[1:]
graph = json.load(open(f"{folder}/graph.json"))
image, private = np.load(f"{folder}/image.npz"), np.load(f"{folder}/private.npz")
given = {**image, **private}
assert first != second and float(seconds) > 0
assert list(image) == ["image"] and "image" not in private
assert {name: list(value.shape) for name, value in given.items()} == graph["inputs"]
assert graph["inputs"]["conv.weight"] == [3, 3, 3, 8] and graph["inputs"]["fc.weight"] == [16, 8]
if rank == "1":
    signal.pause()
print("Link details: total send bytes 1, recv bytes 1, send actions 1, recv actions 1")
print("[info] Link details: total send bytes 40, recv bytes 2, send actions 1, recv actions 1")
features = [1.5] + [0.0] * 7
print(json.dumps({"seconds": 7.5, "match": False, "features": features, "versions": {"spu": "0"}}))
""",
    )
    run = spu_peer(task, spu, timeout=60).run()
    assert (run.seconds, run.match, run.bytes_online, run.rounds) == (7.5, False, 42, None)
    assert run.max_error == task.error_of(np.array([1.5] + [0.0] * 7))
    assert run.versions == {"spu": "0"}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("print('{}')", "expected a count of bytes in its log, found none"),
        ("print('total send bytes')", "expected a JSON object as the last line, got none"),
        ("print('Link details: total send bytes 1, recv bytes 1\\n{}')", "expected seconds, match, features"),
    ],
)
def test_what_spu_says_is_checked(task: PeerTask, tmp_path: Path, program: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        spu_peer(task, fake_spu(tmp_path, program), timeout=60).run()


def test_without_spu_its_row_says_so(task: PeerTask) -> None:
    results = compare(task, [spu_peer(task, Path("nowhere/bin/python"))], runs=3)
    document = comparison_document(results, task, 3)
    assert document["peers"][0]["runs"] == []
    assert document["peers"][0]["figures"] == {}
    assert "no SPU environment, expected nowhere/bin/python" in document["peers"][0]["not measured"]
    cells = [cell for column in comparison_table(document).columns for cell in column.cells]
    assert any(str(cell).startswith("not measured: no SPU environment") for cell in cells)


def peer_of(order: list[str], name: str, match: bool, **options: Any) -> Peer:
    def run() -> Run:
        order.append(name)
        return Run(float(len(order)), match, 0.0)

    return Peer(name, "nothing", run, **options)


def test_runs_are_interleaved(task: PeerTask) -> None:
    order: list[str] = []
    peers = [peer_of(order, "a", task.match), peer_of(order, "b", task.match, most_runs=1)]
    seen: list[tuple[str, int, int]] = []
    results = compare(task, peers, 3, lambda *step: seen.append(step))
    assert order == ["a", "b", "a", "a"]
    assert seen == [("a", 0, 4), ("b", 1, 4), ("a", 2, 4), ("a", 3, 4)]
    assert [run.seconds for run in results[0].runs] == [1, 3, 4]
    seconds = comparison_document(results, task, 3)["peers"][0]["figures"]["online seconds"]
    assert seconds == {"median": 3, "min": 1, "max": 4}


def test_a_wrong_decision_ends_the_comparison(task: PeerTask) -> None:
    with pytest.raises(RunError, match="^wrong: expected the decision different people, got same person$"):
        compare(task, [peer_of([], "wrong", not task.match)])


def test_ratios_need_this_project(task: PeerTask) -> None:
    results = [PeerResult("other", "nothing", (Run(2.0, False, 0.0),))]
    assert comparison_document(results, task, 1)["peers"][0]["ratio to hybridface"] is None
    results.append(PeerResult("hybridface", "much", (Run(0.5, False, 0.0),)))
    assert comparison_document(results, task, 1)["peers"][0]["ratio to hybridface"] == 4


SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ([SLEEP, SLEEP], "^x: expected a result within 1 s, got none$"),
        ([SLEEP, [sys.executable, "-c", "raise SystemExit('why')"]], "^x: process 1 ended with status 1: why$"),
        ([[sys.executable, "-c", "print('{}x')"], SLEEP], "^x: expected a JSON object as the last line, got none$"),
        ([SLEEP, ["/nowhere/program"]], "^x: cannot start /nowhere/program: No such file or directory$"),
    ],
    ids=["deadline", "failure", "no JSON", "no program"],
)
def test_processes_end_with_an_error_of_one_line(commands: list[list[str]], message: str) -> None:
    start = time.monotonic()
    with pytest.raises(RunError, match=message):
        run_pair("x", commands, 1)
    assert time.monotonic() - start < 20


def test_the_second_process_is_ended_with_the_first() -> None:
    document, said = run_pair("x", [[sys.executable, "-c", "print('log'); print('{\"a\": 1}')"], SLEEP], 60)
    assert (document, said) == ({"a": 1}, 'log\n{"a": 1}\n')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--spu", "nowhere/python"], "expected the Python of SPU's environment, found no nowhere/python"),
        (["--output", "nowhere/peers.json"], "expected a file to write to, got nowhere/peers.json: No such file"),
        (["--model", "other"], "expected a model named dlib-resnet29, patchnet or tiny-test, got 'other'"),
        (["--runs", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_inputs_end_at_once(call: Callable[..., Done], arguments: list[str], message: str) -> None:
    status, out, errors = call("bench", "peers", *arguments)
    assert (status, out) == (2, "")
    assert message in errors


def test_wrong_inputs_of_the_functions(task: PeerTask) -> None:
    with pytest.raises(ParameterError, match="expected at least 1 run, got 0"):
        compare(task, [], runs=0)
    with pytest.raises(ModelError, match="expected a model with weights"):
        make_task(load_model("tiny-test", weights=False), PHOTOS)
