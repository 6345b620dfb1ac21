"""The planner's constants in a file: what is written is read, and anything else is one line."""

import json
import os
import stat
from pathlib import Path

import pytest

from parties.machine.calibration import calibrate, calibration_path, load_calibration, save_calibration
from protocols.errors import ParameterError
from protocols.linear.planner import CostModel
from protocols.link import MOBILE, NONE

TIMES = ["client_upload", "server_upload", "server_download", "client_download", "product", "weight"]
MODEL = CostModel(0.1, 0.2, 0.30000000000000004, 1e-7, 5.0, 1e5)


def test_what_is_saved_is_loaded_for_another_network(tmp_path: Path) -> None:
    path = calibration_path(tmp_path / "new" / "folder")
    save_calibration(MODEL, path)
    loaded = load_calibration(path, MOBILE)
    assert [getattr(loaded, name) for name in TIMES] == [getattr(MODEL, name) for name in TIMES]
    assert loaded.link is MOBILE
    assert sorted(json.loads(path.read_text())) == sorted([*TIMES, "sha256"])
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.json"]
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    save_calibration(CostModel(), path)
    assert load_calibration(path, NONE) == CostModel()


def test_without_a_file_the_defaults_are_taken(tmp_path: Path) -> None:
    assert load_calibration(calibration_path(tmp_path), MOBILE) == CostModel(link=MOBILE)


GOOD = dict.fromkeys(TIMES, 1.0)
DAMAGED = {
    "empty": "",
    "no JSON": "{",
    "a list": "[1, 2]",
    "deep": "[" * 100_000,
    "a number": "5",
    "a time left out": json.dumps(dict.fromkeys(TIMES[1:], 1.0)),
    "a word": json.dumps({**GOOD, "weight": "fast"}),
    "a number as text": json.dumps({**GOOD, "weight": "1"}),
    "true": json.dumps({**GOOD, "weight": True}),
    "null": json.dumps({**GOOD, "weight": None}),
    "zero": json.dumps({**GOOD, "weight": 0}),
    "negative": json.dumps({**GOOD, "product": -1.0}),
    "infinite": json.dumps({**GOOD, "product": float("inf")}),
    "no number": json.dumps({**GOOD, "product": float("nan")}),
    "too large": json.dumps({**GOOD, "product": 10**400}),
    "too short": json.dumps({**GOOD, "product": 1e-8}),
    "too long": json.dumps({**GOOD, "product": 1e6}),
    "another digest": json.dumps({**GOOD, "sha256": "0" * 64}),
    "a large file": json.dumps({**GOOD, "more": "x" * (1 << 16)}),
    "control characters": json.dumps({**GOOD, "product": "\x1b[2J\n"}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_line_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    path = calibration_path(tmp_path)
    path.write_text(DAMAGED[name])
    with pytest.raises(ParameterError) as caught:
        load_calibration(path, NONE)
    message = str(caught.value)
    assert message == "calibration.json: expected calibrated times; run hybridface calibrate again"
    assert str(tmp_path) not in message, "a peer is told"


def test_a_damaged_digit_is_noticed(tmp_path: Path) -> None:
    path = calibration_path(tmp_path)
    save_calibration(MODEL, path)
    good = path.read_text()
    assert good.count("0.30000000000000004") == 1
    path.write_text(good.replace("0.30000000000000004", "0.30000000000000008"))
    with pytest.raises(ParameterError, match="expected calibrated times"):
        load_calibration(path, NONE)


def test_a_file_of_an_older_version_has_no_digest(tmp_path: Path) -> None:
    path = calibration_path(tmp_path)
    path.write_text(json.dumps(GOOD))
    assert load_calibration(path, NONE).weight == 1.0


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = calibration_path(tmp_path)
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(ParameterError, match="expected calibrated times"):
        load_calibration(path, NONE)


def test_a_file_of_bytes(tmp_path: Path) -> None:
    path = calibration_path(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match="expected calibrated times"):
        load_calibration(path, NONE)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match=r"^cannot write calibration\.json to the cache folder: "):
        save_calibration(MODEL, calibration_path(tmp_path / "file"))


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = calibration_path(tmp_path)
    save_calibration(MODEL, path)

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ParameterError, match="No space left"):
        save_calibration(CostModel(), path)
    assert load_calibration(path, NONE) == MODEL


def test_calibration_measures_every_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.machine.calibration._RUNS", 1)
    monkeypatch.setattr("parties.machine.calibration._COUNT", 2)
    monkeypatch.setattr("parties.machine.calibration._WEIGHTS", 4)
    steps: list[tuple[str, int, int]] = []
    model = calibrate(lambda *step: steps.append(step))
    assert all(getattr(model, name) > 0 for name in TIMES)
    assert model.link == NONE
    assert [index for _, index, _ in steps] == list(range(steps[0][2]))
    assert {name for name, _, _ in steps} >= set(TIMES[:4])
