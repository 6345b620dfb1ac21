"""`hybridface train`, whole: with labels and without, its cache, and its errors."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridface.faces import alignment
from hybridface.models import budget
from hybridface.models.model import load_model
from hybridface.models.patchnet import (
    read_patchnet,
    read_ranges,
)
from hybridface.train import distil
from support.portraits import save_portraits
from support.ranks import Done
from support.students import GRID

pytestmark = pytest.mark.slow


@pytest.fixture
def call(call: Callable[..., Done]) -> Callable[..., Done]:
    """Run `hybridface train` in this process."""
    return partial(call, "train")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_portraits(tmp_path_factory.mktemp("train"))


def test_a_whole_run(call: Callable[..., Done], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "PATCHES", GRID)
    options = ["--images", data / "faces.tar", "--pairs", data / "pairs.txt", "--held-out-folds", "2"]
    options += ["--teacher", "tiny-test", "--epochs", 300, "--views", 2, "--cache", data / "cache", "--workers", 1]
    status, out, errors = call(*options, "--output", data / "net.npz", "--json")
    assert (status, errors) == (0, "")
    result = json.loads(out)
    assert (result["people"], result["photos"]) == (2, 3)
    shape, weights = read_patchnet(data / "net.npz")
    assert (shape.outputs, shape.threshold) == (8, result["accuracy"]["threshold"])
    ranges = read_ranges(data / "net.npz")
    assert ranges is not None
    assert max(result["ranges"]) <= max(ranges.before_squares)
    assert [level.headroom_bits for level in budget.check_budget(ranges)] == [
        level["headroom_bits"] for level in result["budget"]
    ]
    assert not (data / "net.npz.checkpoint").exists()
    model = load_model("patchnet", path=data / "net.npz")
    assert model.threshold == pytest.approx(shape.threshold**0.5)

    monkeypatch.setattr(alignment, "face_chips", lambda *_, **__: pytest.fail("faces were aligned twice"))
    status, out, _ = call(*options, "--output", data / "again.npz", "--quiet")
    assert status == 0
    assert "held out" in out
    again = read_patchnet(data / "again.npz")[1]
    assert np.array_equal(again.maps[0][0], weights.maps[0][0]), "training is not reproducible"


@pytest.mark.slow
def test_a_run_without_labels(
    call: Callable[..., Done], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil, "PATCHES", GRID)
    folder = tmp_path / "faces"
    folder.mkdir()
    for photo in (data / "faces").rglob("*.jpg"):
        shutil.copy(photo, folder)
    options = [
        "--images",
        folder,
        "--teacher",
        "tiny-test",
        "--epochs",
        300,
        "--views",
        1,
        "--held-out-fraction",
        0.34,
    ]
    options += ["--cache", tmp_path / "cache", "--workers", 1, "--output", tmp_path / "net.npz"]
    status, out, errors = call(*options, "--json")
    assert (status, errors) == (0, "")
    result = json.loads(out)
    assert (result["photos"], result["accuracy"], result["agreement"]["pairs"]) == (4, None, 0)
    assert load_model("patchnet", path=tmp_path / "net.npz").threshold ** 2 == result["agreement"]["threshold"]
    status, out, _ = call(*options, "--quiet")
    assert status == 0
    assert "least headroom, bits" in out


def test_no_cache_keeps_no_faces(
    call: Callable[..., Done], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil, "PATCHES", GRID)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = ["--images", data / "faces.tar", "--pairs", data / "pairs.txt", "--held-out-folds", "2"]
    options += ["--teacher", "tiny-test", "--epochs", 2500, "--views", 1, "--members", 1, "--workers", 1]
    status, _, errors = call(*options, "--cache", "none", "--output", tmp_path / "net.npz", "--quiet")
    assert (status, errors) == (0, "")
    assert not (tmp_path / "user").exists()
    assert not list(tmp_path.rglob("*.npy"))
    assert not list(tmp_path.glob("hybridface-*"))


def test_errors(call: Callable[..., Done], data: Path, tmp_path: Path) -> None:
    given = {"--images": data / "faces.tar", "--pairs": data / "pairs.txt", "--output": tmp_path / "net.npz"}
    given |= {"--held-out-folds": "2", "--cache": tmp_path / "cache"}

    def error(**changed: object) -> str:
        options = given | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        status, out, errors = call(*(word for option in options.items() for word in option), "--quiet")
        assert (status, out, errors.count("\n")) == (2, "", 1), errors
        return errors

    assert "expected folds like 7,8, got 'last'" in error(held_out_folds="last")
    assert "expected some of the folds 1 to 2" in error(held_out_folds="3")
    assert "expected a model named" in error(teacher="nobody")
    assert "expected a tar file or folder" in error(images=tmp_path / "none.tar")
    assert "expected a file to write to" in error(output=tmp_path / "none" / "net.npz")
    assert "expected a file to write to" in error(output=tmp_path)
    assert "expected pairs in LFW's format" in error(pairs=tmp_path / "none.txt")
    assert "expected --device cpu or cuda, got 'tpu'" in error(device="tpu")
    if not torch.cuda.is_available():
        assert "expected an NVIDIA GPU that torch can use" in error(device="cuda")
    (tmp_path / "empty").mkdir()
    assert "expected photos, found none" in error(images=tmp_path / "empty")
    assert call("--images", "x")[0] == 2
