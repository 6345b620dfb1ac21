"""The command line: help, exit statuses, JSON, one-line errors, and the options as they reach the three ranks."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import save_chips
from PIL import Image

from hybridface import cli, run
from hybridface.errors import RunError
from hybridface.evaluate import EvaluationReport
from hybridface.models import load_model
from hybridface.modes import Mode
from hybridface.photos import photo_path
from hybridface.run import Outcome, ProgressBars, run_parties
from parties.cost import CostReport, StageCost
from parties.weight_cache import cache_directory
from protocols.matching import Reveal
from protocols.network import convolution_shapes
from protocols.network_profile import MOBILE, NONE, WAN

ROOT = Path(__file__).resolve().parent.parent
GUARD_SECONDS = 120.0
TINY = ["--model", "tiny-test", "--aligned"]

Done = tuple[int, str, str]
"""Exit status, standard output, standard error."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line in this process, which saves the time of its imports; ranks are processes all the same."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def main(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["hybridface", *arguments])
        status: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        out, errors = capfd.readouterr()
        return int(status or 0), out, errors

    return main


def command(*arguments: str) -> Done:
    """Run the command line as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hybridface", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Aligned random chips: "a" and "same" match, "a" and "different" do not; and files that are no such thing."""
    folder = tmp_path_factory.mktemp("photos")
    save_chips(folder, seed=3)
    (folder / "text.png").write_text("not a photo\n")
    faces = [Image.open(photo_path(name)).convert("RGB").resize((400, 400)) for name in ("person_a_1.jpg",) * 2]
    both = Image.new("RGB", (800, 400))
    for i, face in enumerate(faces):
        both.paste(face, (400 * i, 0))
    both.save(folder / "two.png")
    return {path.stem: str(path) for path in folder.iterdir()}


# Help


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["verify", "demo", "party", "evaluate", "bench", "calibrate", "plan", "same face?"]),
        (
            ("verify",),
            ["--model", "--reveal", "--aligned", "--enrolled", "--json", "--quiet", "--network", "2 error", "Nobody"],
        ),
        (("demo",), ["--quiet"]),
        (
            ("party",),
            [
                "client|server|dealer|worker",
                "--weights",
                "--pool",
                "--batch",
                "--cache",
                "--repeat",
                "--timeout",
                "--network",
                "mpiexec",
            ],
        ),
        (("bench",), ["verify", "workers", "peers"]),
        (("bench", "verify"), ["--runs", "--json", "--network", "mobile", "median"]),
        (("evaluate",), ["--images", "--pairs", "--protocol", "--workers", "emulator"]),
        (("train",), ["--images", "--pairs", "--held-out-folds", "--output", "--resume", "--epochs", "--seed"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(call: Callable[..., Done], arguments: tuple[str, ...], words: list[str], option: str) -> None:
    status, out, errors = call(*arguments, option)
    assert (status, errors) == (0, "")
    for word in words:
        assert word in out


def test_no_arguments_show_the_help(call: Callable[..., Done]) -> None:
    status, out, errors = call()
    assert status == 2, "neither of the answers"
    assert "verify" in out + errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "a.jpg"),
        ("verify", "a.jpg", "b.jpg", "--reveal", "everybody"),
        ("verify", "a.jpg", "b.jpg", "--timeout", "0"),
        ("party", "spectator"),
        ("party", "client", "--repeat", "0"),
        ("bench", "verify", "--runs", "0"),
        ("evaluate", "--images", "x"),
        ("guess",),
    ],
    ids=" ".join,
)
def test_usage_errors(call: Callable[..., Done], arguments: tuple[str, ...]) -> None:
    status, out, errors = call(*arguments)
    assert (status, out) == (2, "")
    assert "Usage:" in errors
    assert "Traceback" not in errors


# Errors


def assert_one_line(done: Done, message: str) -> None:
    status, out, errors = done
    assert (status, out) == (2, "")
    assert errors == f"hybridface: {message}\n"


def test_errors_before_anything_starts(call: Callable[..., Done], photos: dict[str, str], tmp_path: Path) -> None:
    a = photos["a"]
    missing = "expected a photo, found no such file"
    assert_one_line(call("verify", a, "/none.jpg", *TINY), f"/none.jpg: {missing}")
    assert_one_line(call("verify", str(tmp_path), a, *TINY), f"{tmp_path}: {missing}")
    unknown = "expected a model named dlib-resnet29, patchnet or tiny-test, got 'nobody'"
    assert_one_line(call("verify", a, a, "--model", "nobody"), unknown)
    status, out, errors = call("evaluate", "--images", str(tmp_path), "--pairs", "/none", "--model", "tiny-test")
    assert (status, out) == (2, "")
    assert errors.startswith("hybridface: /none: expected pairs in LFW's format, got ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--quiet"],
        ["--json"],
        [],
    ],
    ids=" ".join,
)
def test_no_mpiexec(
    call: Callable[..., Done], photos: dict[str, str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def none() -> str:
        raise FileNotFoundError("expected mpiexec (pip install mpich), found none")

    monkeypatch.setattr(run, "find_mpiexec", none)
    done = call("verify", photos["a"], photos["same"], *TINY, *options)
    assert_one_line(done, "expected mpiexec (pip install mpich), found none")


def test_a_text_file_for_a_photo(call: Callable[..., Done], photos: dict[str, str]) -> None:
    done = call("verify", photos["a"], photos["text"], *TINY, "--json")
    assert_one_line(done, "client: text.png: expected a photograph, got an unreadable file")


def test_several_faces(call: Callable[..., Done], photos: dict[str, str]) -> None:
    done = call("verify", photos["two"], photos["a"], "--model", "tiny-test", "--quiet")
    assert_one_line(done, "client: two.png: expected one face, found 2")


# Results


def test_json_of_the_same_person(photos: dict[str, str]) -> None:
    status, out, errors = command("verify", photos["a"], photos["same"], *TINY, "--json")
    assert (status, errors) == (0, "")
    assert out.count("\n") == 1
    result = json.loads(out)
    assert (result["match"], result["decision"]) == (True, True)
    assert (result["model"], result["reveal"]) == ("tiny-test", "client")
    assert set(result["peak_bytes"]) == {"client", "server", "dealer"}
    assert min(result["peak_bytes"].values()) > 50e6
    cost = result["cost"]
    assert set(cost) == {"offline", "online", "stages"}
    assert cost["online"]["rounds"] > 20
    assert cost["online"]["dealer_bytes"] == 0 < cost["offline"]["dealer_bytes"]
    assert cost["online"]["bytes_up"] == sum(s["bytes_up"] for s in cost["stages"] if s["phase"] == "online")
    names = {p: [s["stage"] for s in cost["stages"] if s["phase"] == p] for p in ("offline", "online")}
    graph = load_model("tiny-test", weights=False).graph
    assert names["offline"] == ["keys and weights", "correlations", *convolution_shapes(graph)]
    assert names["online"] == [node.name for node in graph.nodes] + ["distance and threshold"]


def test_text_of_different_people_that_the_server_learns(call: Callable[..., Done], photos: dict[str, str]) -> None:
    options = ["--enrolled", "--reveal", "server", "--layers", "--quiet"]
    status, out, errors = call("verify", photos["a"], photos["different"], *TINY, *options)
    assert (status, errors) == (1, "")
    lines = out.splitlines()
    assert lines[0] == "different people (only the server learned it)"
    first_words = [line.split()[0] for line in lines if line.strip()]
    for word in ("offline", "online", "block_conv1", "fc"):
        assert word in first_words
    assert "Peak memory: client " in out
    assert all(len(line) <= 110 for line in lines)


def test_benchmark(call: Callable[..., Done], photos: dict[str, str]) -> None:
    status, out, errors = call("bench", "verify", photos["a"], photos["same"], *TINY, "--runs", "2", "--json")
    assert (status, errors) == (0, "")
    summary = json.loads(out)
    assert (summary["runs"], summary["model"], summary["network"]) == (2, "tiny-test", "none")
    assert set(summary["peak_mib"]) == {"client", "server", "dealer"}
    seconds = summary["figures"]["online seconds"]
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
    up = summary["figures"]["online MB up"]
    assert up["min"] == up["max"] > 0.01


def test_evaluate_passes_its_options_on(call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def evaluate_pairs(*arguments: Any, **options: Any) -> EvaluationReport:
        seen.append((*arguments, *options.values()))
        return EvaluationReport({"pairs": 3, "accuracy": 0.5}, [])

    monkeypatch.setattr("hybridface.evaluate.evaluate_pairs", evaluate_pairs)
    options = ["--images", "i", "--pairs", "p", "--protocol", "4", "--limit", "5", "--seed", "6", "--workers", "7"]
    status, out, _ = call("evaluate", *options, "--model", "tiny-test", "--json")
    assert status == 0
    assert json.loads(out) == {"pairs": 3, "accuracy": 0.5, "differing pairs": []}
    assert seen == [(Path("i"), Path("p"), "tiny-test", 4, 5, 6, 7, False)]
    status, out, _ = call("evaluate", "--images", "i", "--pairs", "p")
    assert status == 0
    assert [line.split() for line in out.splitlines()[1:]] == [["pairs", "3"], ["accuracy", "0.5"]]
    assert seen[1] == (Path("i"), Path("p"), "dlib-resnet29", 0, 0, 0, 2, True)


# What reaches the ranks

Options = namedtuple(
    "Options",
    "model photos aligned enrolled repeat reveal events timeout network batch pool pause cache mode max_answers",
)
STOPPED = "not started"


@pytest.fixture
def ranks(call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Options]]:
    """Return what each rank is told to do by a command, by reading the ranks' own command lines."""

    def told(*arguments: str) -> dict[str, Options]:
        lines: list[list[str]] = []

        def mpiexec_command(programs: list[list[str]], mpiexec: str) -> list[str]:
            lines.extend(programs)
            raise FileNotFoundError(STOPPED)

        party = ModuleType("hybridface.party")
        options: dict[str, Options] = {}
        party.PartyOptions = Options  # type: ignore[attr-defined]
        party.run_party = lambda role, given: options.update({role.value: given}) or 0  # type: ignore[attr-defined]
        monkeypatch.setattr(run, "mpiexec_command", mpiexec_command)
        assert call(*arguments)[::2] == (2, f"hybridface: {STOPPED}\n")
        monkeypatch.setitem(sys.modules, "hybridface.party", party)
        for line in lines:
            assert line[:3] == [sys.executable, "-m", "hybridface"]
            status, _, errors = call(*line[3:])
            assert (status, errors) == (0, ""), line
        return options

    return told


def test_options_reach_the_ranks(ranks: Callable[..., dict[str, Options]], photos: dict[str, str]) -> None:
    a, b = photos["a"], photos["same"]
    options = ranks("verify", a, b, *TINY, "--quiet", "--reveal", "both", "--enrolled", "--timeout", "7")
    assert list(options) == ["client", "server", "dealer"]
    client, server, dealer = options.values()
    assert client[1:] == (
        (Path(a), Path(b)),
        True,
        True,
        1,
        Reveal.BOTH,
        True,
        7.0,
        NONE,
        1,
        0,
        0.0,
        cache_directory(),
        Mode.HYBRID,
        50,
    )
    assert (server.photos, server.reveal, server.events, server.timeout) == ((), Reveal.BOTH, True, 7.0)
    assert (dealer.photos, dealer.events) == ((), True)
    models = client.model(), server.model()
    assert [model.name for model in models] == ["tiny-test", "tiny-test"]
    assert models[0].weights is None, "the client has read the weights"
    assert models[1].weights is not None


def test_the_benchmarks_options_reach_the_client(ranks: Callable[..., dict[str, Options]]) -> None:
    client = ranks("bench", "verify", "--quiet", "--runs", "3", "--model", "tiny-test")["client"]
    portraits = tuple(photo_path(f"person_b_{i}.jpg") for i in (1, 2))
    run = (1, 0, 0.0, cache_directory(), Mode.HYBRID, 3)
    assert client[1:] == (portraits, False, True, 3, Reveal.CLIENT, True, 300.0, NONE, *run)


def test_a_network_reaches_all_three_ranks(ranks: Callable[..., dict[str, Options]], photos: dict[str, str]) -> None:
    told = ranks("verify", photos["a"], photos["same"], *TINY, "--quiet", "--network", "wan")
    assert [(role, options.network) for role, options in told.items()] == [
        ("client", WAN),
        ("server", WAN),
        ("dealer", WAN),
    ]
    told = ranks("bench", "verify", "--quiet", "--model", "tiny-test", "--network", "mobile")
    assert [options.network for options in told.values()] == [MOBILE] * 3


def test_a_mode_reaches_its_ranks(ranks: Callable[..., dict[str, Options]], photos: dict[str, str]) -> None:
    told = ranks("verify", photos["a"], photos["same"], "--aligned", "--quiet", "--mode", "pure-he")
    assert [(role, options.mode) for role, options in told.items()] == [
        ("client", Mode.PURE_HE),
        ("server", Mode.PURE_HE),
    ]
    assert [options.model().name for options in told.values()] == ["patchnet"] * 2
    assert told["client"].model().patch_weights is None
    assert told["server"].model().patch_weights is not None
    told = ranks("bench", "verify", "--quiet", "--runs", "70", "--mode", "pure-he")
    assert [options.max_answers for options in told.values()] == [70, 70]


@pytest.mark.parametrize("arguments", [("verify", "a", "a"), ("bench", "verify"), ("party", "dealer")], ids=" ".join)
def test_an_unknown_network(
    call: Callable[..., Done], photos: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(run, "find_mpiexec", lambda: pytest.fail("a rank was started"))
    words = [photos["a"] if word == "a" else word for word in arguments]
    message = "expected a network named none, lan, wan or mobile, got 'lte'"
    assert_one_line(call(*words, "--network", "lte"), message)


@pytest.mark.parametrize(
    "name",
    [
        "two words.png",
        'it\'s [b]"é".png',
        "--events.png",
    ],
)
def test_names_of_photos_are_only_names(
    ranks: Callable[..., dict[str, Options]],
    photos: dict[str, str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # after `call` has gone elsewhere
    Path(name).write_bytes(Path(photos["a"]).read_bytes())
    client = ranks("verify", *TINY, "--quiet", "--", name, photos["same"])["client"]
    assert client.photos == (Path(name), Path(photos["same"]))


# What comes back from the ranks


def say(*events: dict[str, Any] | str, status: int = 0, then: str = "") -> list[str]:
    """Return a command that prints events, as mpiexec would pass them on."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    program = f"import sys, time, os\nprint({chr(10).join(lines)!r}, flush=True)\n{then}\nsys.exit({status})"
    return [sys.executable, "-c", program]


def outcome_of(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> Outcome:
    monkeypatch.setattr(run, "mpiexec_command", lambda ranks, mpiexec: command)
    return run_parties([Path("a"), Path("b")])


RESULT = {"event": "result", "match": None, "cost": {}}


def test_events_become_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"event": "memory", "role": "server", "peak_bytes": 5}
    decision = {"event": "decision", "role": "server", "match": False}
    noise = ["a warning of a library", "{", "[1]", '{"no": "event"}']
    outcome = outcome_of(monkeypatch, say(*noise, RESULT, RESULT, decision, memory, status=1))
    assert outcome.results == [{"match": None, "cost": {}}] * 2
    assert (outcome.match, outcome.memory) == (False, {"server": 5})


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (say(RESULT, status=3), r"^a party ended unexpectedly \(mpiexec's exit status 3\)$"),
        (say(status=0), r"^a party ended unexpectedly \(mpiexec's exit status 0\)$"),
        (
            say(status=9, then="print('one\\nout of memory\\n', file=sys.stderr)"),
            r"^a party ended unexpectedly \(mpiexec's exit status 9\): out of memory$",
        ),
        (
            say(
                {"event": "error", "role": "client", "message": "server ended: no disk", "from_peer": True},
                {"event": "error", "role": "server", "message": "no disk"},
                RESULT,
            ),
            r"^server: no disk$",
        ),
    ],
    ids=["status", "silence", "last line", "first cause"],
)
def test_failures_become_one_line(monkeypatch: pytest.MonkeyPatch, program: list[str], message: str) -> None:
    with pytest.raises(RunError, match=message):
        outcome_of(monkeypatch, program)


def test_an_mpiexec_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_END_SECONDS", 0.2)
    with pytest.raises(RunError):
        outcome_of(monkeypatch, say(RESULT, then="sys.stdout.flush(); os.close(1); time.sleep(60)"))


def test_the_ranks_leave_standard_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"the caller's next line")
    os.close(write)
    saved = os.dup(0)
    os.dup2(read, 0)
    answer = "print(json.dumps({'event': 'memory', 'role': 'client', 'peak_bytes': len(sys.stdin.read())}))"
    try:
        outcome = outcome_of(monkeypatch, say(RESULT, then=f"import json; {answer}"))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
    assert outcome.memory == {"client": 0}


def test_progress_bars() -> None:
    bars = ProgressBars(shown=False)

    def progress(role: str, phase: str, stage: str, index: int, total: int) -> None:
        bars({"event": "progress", "role": role, "phase": phase, "stage": stage, "index": index, "total": total})

    with bars:
        bars({"event": "memory", "role": "client", "peak_bytes": 1})
        progress("client", "start", "keys and weights", 0, 1)
        progress("server", "start", "weights of conv", 3, 9)
        progress("client", "offline", "correlations", 1, 2)
        progress("client", "online", "relu", 5, 16)
        progress("client", "elsewhere", "relu", 5, 16)
        tasks = {task.fields["phase"]: task for task in bars._progress.tasks}
    assert list(tasks) == ["start", "offline", "online"]
    assert (tasks["online"].completed, tasks["online"].total, tasks["online"].description) == (5, 16, "relu")
    assert tasks["start"].completed == tasks["start"].total
    assert tasks["offline"].completed == tasks["offline"].total == 2


def test_outcome_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    cost = CostReport((StageCost("online", "conv", 1.0, 2.0, 3.0, 4_000_000, 0, 0, 7),)).document()
    outcome = Outcome([{"match": True, "cost": cost}], None, {"client": 2**20})
    cli._print_outcome(outcome, load_model("tiny-test", weights=False), as_json=False, layers=False)
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "same person"
    assert "convolutions (1)" in out
    assert out.rstrip().endswith("Peak memory: client 1 MiB")
