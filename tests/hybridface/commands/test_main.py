"""The command line: help, exit statuses, JSON, and one-line errors."""

import errno
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hybridface.commands import main
from hybridface.commands.places import say_warning
from hybridface.commands.verify import _print_outcome
from hybridface.errors import ImageError
from hybridface.errors import told as told_of
from hybridface.faces.formats import TAKEN
from hybridface.models.model import load_model
from hybridface.output.answers import answer_text, say
from hybridface.photos import photo_path
from hybridface.processes import supervised
from hybridface.processes.events import Events
from hybridface.processes.start import Outcome
from parties.session.cost import CostReport, StageCost
from parties.transport.roles import Role
from support.ranks import Done
from support.tiny_network import save_chips

TINY = ["--model", "tiny-test", "--aligned"]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["verify", "demo", "party", "eval", "bench", "calibrate", "plan", "Compare faces"]),
        (
            ("verify",),
            ["--model", "--reveal", "--aligned", "--enrolled", "--json", "--quiet", "--link", "2 error", "Nobody"],
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
                "--link",
                "mpiexec",
            ],
        ),
        (("bench",), ["verify", "workers", "peers"]),
        (("bench", "verify"), ["--runs", "--json", "--link", "mobile", "median"]),
        (("eval",), ["lfw", "accuracy"]),
        (("eval", "lfw"), ["--images", "--pairs", "plain|emulated|hybrid|pure-he", "--folds", "--limit", "biometric"]),
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
        ("verify",),
        ("verify", "a.jpg", "b.jpg", "--reveal", "everybody"),
        ("verify", "a.jpg", "b.jpg", "--timeout", "0"),
        ("party", "spectator"),
        ("party", "client", "--repeat", "0"),
        ("bench", "verify", "--runs", "0"),
        ("eval", "lfw", "--images", "x"),
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
    folder = f"{tmp_path.name}: expected a photo, got a folder; name a photo in it"
    assert_one_line(call("verify", str(tmp_path), a, *TINY), folder)
    unknown = "expected a model named dlib-resnet29, patchnet or tiny-test, got 'nobody'"
    assert_one_line(call("verify", a, a, "--model", "nobody"), unknown)
    widths = "expected --widths only with --weights random, got '64,64'"
    assert_one_line(call("bench", "pure-he", "--widths", "64,64"), widths)


@pytest.mark.parametrize(
    "options",
    [
        ["--quiet"],
        [],
    ],
    ids=" ".join,
)
def test_no_mpiexec(
    call: Callable[..., Done], photos: dict[str, str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def none() -> str:
        raise FileNotFoundError("expected mpiexec (pip install mpich), found none")

    monkeypatch.setattr(supervised, "find_mpiexec", none)
    done = call("verify", photos["a"], photos["same"], *TINY, *options)
    assert_one_line(done, "expected mpiexec (pip install mpich), found none")


def test_a_text_file_for_a_photo(call: Callable[..., Done], photos: dict[str, str]) -> None:
    message = f"text.png: expected a photo, got a text file; the formats that are read are {TAKEN}"
    assert_one_line(call("verify", photos["a"], photos["text"], *TINY), message)
    status, out, errors = call("verify", photos["a"], photos["text"], *TINY, "--json")
    assert (status, errors) == (2, f"hybridface: {message}\n")
    assert json.loads(out) == {"error": {"kind": "image", "message": message}}


@pytest.mark.slow
def test_several_faces(call: Callable[..., Done], photos: dict[str, str]) -> None:
    status, out, errors = call("verify", photos["two"], photos["a"], "--model", "tiny-test", "--quiet")
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("hybridface: two.png: expected one face, found 2: ")


@pytest.mark.parametrize("arguments", [("verify", "a", "a"), ("bench", "verify"), ("party", "dealer")], ids=" ".join)
def test_an_unknown_network(
    call: Callable[..., Done], photos: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(supervised, "find_mpiexec", lambda: pytest.fail("a rank was started"))
    words = [photos["a"] if word == "a" else word for word in arguments]
    message = "expected a network named none, lan, wan or mobile, got 'lte'"
    assert_one_line(call(*words, "--link", "lte"), message)


class Closed(io.StringIO):
    """An output that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_an_output_that_is_closed_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 2, "1 means different people"


def test_a_defect_is_told_on_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert re.fullmatch(r"hybridface: internal error at test_main\.py:\d+: ZeroDivisionError: first second\n", errors)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "/x/cache"), "cannot use /x/cache: No space left on device"),
        (OSError(28, "No space left on device"), "cannot use a file: No space left on device"),
        (OSError(18, "Invalid link", "/a\nb", None, b"/c"), "cannot use /a b and /c: Invalid link"),
        (OSError(36, "File name too long", "x" * 300), f"cannot use {'x' * 200}...: File name too long"),
    ],
)
def test_what_the_system_says_of_a_file_is_no_defect(error: OSError, told: str) -> None:
    assert told_of(error) == told


EVIL = "x\x1b[31m\x9b2J\rEVIL\u202e.jpg"
SHOWN_EVIL = "x\\x1b[31m\\x9b2J\\rEVIL\\u202e.jpg"


def test_names_cannot_steer_a_terminal(
    call: Callable[..., Done], photos: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / EVIL).touch()
    shown = SHOWN_EVIL.replace("\\r", " ")  # lines end there
    status, out, errors = call("verify", str(tmp_path / EVIL), photos["a"], *TINY)
    assert (status, out, errors) == (2, "", f"hybridface: {shown}: expected a photo, got an empty file\n")
    assert told_of(ImageError(f"{EVIL}: Zoë, 名前 or \udce9")) == f"{shown}: Zoë, 名前 or \\udce9"
    assert told_of(OSError(28, "No space left", EVIL)) == f"cannot use {shown}: No space left"
    say_warning(f"{EVIL}\nof two lines")
    Events(Role.CLIENT, shown=False).warn(EVIL)
    errors = f"hybridface: {SHOWN_EVIL}\\nof two lines\nhybridface client: {SHOWN_EVIL}\n"
    assert capfd.readouterr() == ("", errors)


def test_nor_can_answers(capfd: pytest.CaptureFixture[str]) -> None:
    say({}, f"{EVIL}\nZoë", as_json=False)
    assert capfd.readouterr().out == f"{SHOWN_EVIL}\nZoë\n"
    assert answer_text({"refused": f"{EVIL}\n"}) == f"{SHOWN_EVIL}\\n", "which a peer says"
    assert answer_text({"unusable": EVIL}) == f"not enrolled: {SHOWN_EVIL}"


# Results


def test_json_of_the_same_person(call: Callable[..., Done], photos: dict[str, str]) -> None:
    status, out, errors = call("verify", photos["a"], photos["same"], *TINY, "--json", "--costs")
    assert (status, errors) == (0, "")
    assert out.count("\n") == 1
    result = json.loads(out)
    assert (result["match"], result["model"], result["reveal"]) == (True, "tiny-test", "client")
    cost = result["costs"]
    assert set(cost["peak_bytes"]) == {"client", "server"}
    assert min(cost["peak_bytes"].values()) > 50e6
    assert set(cost) == {"offline", "online", "stages", "setup", "peak_bytes"}
    assert cost["online"]["rounds"] > 20
    assert cost["online"]["dealer_bytes"] == cost["offline"]["dealer_bytes"] == 0
    assert cost["online"]["bytes_up"] == sum(s["bytes_up"] for s in cost["stages"] if s["phase"] == "online")
    names = {p: [s["stage"] for s in cost["stages"] if s["phase"] == p] for p in ("offline", "online")}
    graph = load_model("tiny-test", weights=False).graph
    assert names["offline"] == ["keys and weights", "correlations", *graph.linear_layers()]
    assert names["online"] == [node.name for node in graph.nodes] + ["distance and threshold"]


@pytest.mark.slow
def test_a_stricter_threshold(call: Callable[..., Done], photos: dict[str, str]) -> None:
    assert call("verify", photos["a"], photos["same"], *TINY, "--threshold", "0.001")[0] == 1
    status, out, errors = call("verify", photos["a"], photos["same"], *TINY, "--threshold", "-3")
    assert (status, out) == (2, "")
    assert errors == "hybridface: expected a threshold above 0 and below 16384, got -3\n"


@pytest.mark.slow
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


@pytest.mark.slow
def test_benchmark(call: Callable[..., Done], photos: dict[str, str]) -> None:
    status, out, errors = call("bench", "verify", photos["a"], photos["same"], *TINY, "--runs", "2", "--json")
    assert (status, errors) == (0, "")
    summary = json.loads(out)
    assert (summary["runs"], summary["model"], summary["link"]) == (2, "tiny-test", "none")
    assert set(summary["peak_mib"]) == {"client", "server"}
    seconds = summary["figures"]["online_seconds"]
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
    up = summary["figures"]["online_MB_up"]
    assert up["min"] == up["max"] > 0.01


def test_outcome_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    cost = CostReport((StageCost("online", "conv", 1.0, 2.0, 3.0, 4_000_000, 0, 0, 7),)).document()
    outcome = Outcome([{"match": True, "cost": cost}], None, {"client": 2**20})
    _print_outcome(outcome, load_model("tiny-test", weights=False), layers=False)
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "same person"
    assert "convolutions (1)" in out
    assert out.rstrip().endswith("Peak memory: client 1 MiB")
