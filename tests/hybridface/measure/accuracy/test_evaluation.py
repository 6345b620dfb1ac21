"""Whole measurements on portraits laid out as LFW is: figures, comparisons, sessions, files, and the command."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.alignment import align
from hybridface.faces.choice import FaceChoice
from hybridface.faces.images import face_chips
from hybridface.faces.sources import open_photos
from hybridface.measure.accuracy import measured_accuracy, sessions
from hybridface.measure.accuracy.documents import Decision, session_document
from hybridface.measure.accuracy.embeddings import Network
from hybridface.measure.accuracy.evaluation import Evaluation, EvaluationOptions, evaluate
from hybridface.measure.accuracy.mode import EvalMode
from hybridface.measure.accuracy.report import accuracy_table, write_results
from hybridface.measure.accuracy.statistics import best_threshold
from hybridface.models import MODELS
from hybridface.models.model import Model, load_model
from hybridface.modes import Mode
from protocols.arithmetic.fixed_point import decode
from protocols.errors import ParameterError
from protocols.network.emulator import Emulator
from support.portraits import PAIRS, PORTRAITS, save_portraits
from support.ranks import Done

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_portraits(tmp_path_factory.mktemp("lfw"))


@pytest.fixture(scope="module")
def options(data: Path) -> EvaluationOptions:
    """Of a quick run, all with one cache."""
    given = data / "faces", data / "pairs.txt", data / "cache"
    return EvaluationOptions(*given, model="tiny-test", workers=1, shown=False)


@pytest.fixture(scope="module")
def emulated(options: EvaluationOptions) -> Evaluation:
    return evaluate(replace(options, mode=EvalMode.EMULATED))


def test_distances_are_those_of_the_network_and_of_the_emulator(data: Path, emulated: Evaluation) -> None:
    model = load_model("tiny-test")
    emulator = Emulator(model.graph, model.weights or {})
    for decision in emulated.decisions:
        photos = data / "faces" / decision.first, data / "faces" / decision.second
        chips = [face_chips(photo, ((16, 0.25),))[0] for photo in photos]
        images = np.stack([model.normalise(chip) for chip in chips])
        assert model.module is not None
        with torch.no_grad():
            plain = model.module(torch.from_numpy(images)).numpy()
        exact = decode(emulator.run(images).view(np.uint64))
        assert decision.reference_distance == pytest.approx(np.linalg.norm(plain[0] - plain[1]), abs=1e-9)
        assert decision.distance == pytest.approx(np.linalg.norm(exact[0] - exact[1]), abs=1e-12)
        assert decision.decision == (decision.distance < model.threshold)


def test_the_document(emulated: Evaluation) -> None:
    document = json.loads(json.dumps(emulated.document))
    assert document["model"] == "tiny-test"
    assert document["mode"] == "emulated"
    assert (document["pairs"], document["folds"], document["photos"], document["undetected"]) == (4, [1, 2], 6, 0)
    assert (document["threshold"], document["face"], document["drawn_with_seed"]) == (0.6, "centre", None)
    rows = emulated.decisions
    assert [row.fold for row in rows] == [1, 1, 2, 2]
    expected = []
    for fold in (1, 2):
        others = [row for row in rows if row.fold != fold]
        threshold = best_threshold(np.array([r.distance for r in others]), np.array([r.same for r in others]))
        here = [row for row in rows if row.fold == fold]
        assert {row.fold_threshold for row in here} == {threshold}
        assert all(row.fold_decision == (row.distance < threshold) for row in here)
        expected.append(np.mean([row.fold_decision == row.same for row in here]))
    assert document["accuracy"] == np.mean(expected)
    assert document["accuracy_std"] == pytest.approx(np.std(expected, ddof=1))
    assert document["false_accepts"] == sum(row.decision and not row.same for row in rows)
    assert document["false_rejects"] == sum(row.same and not row.decision for row in rows)
    assert set(document["tar_at_far"]) == {"0.01", "0.001"}
    assert document["differing_decisions"] == document["differing_fold_decisions"] == 0
    assert document["differing"] == []
    assert 0 < document["largest_embedding_difference"] < 1e-3
    assert 0 < document["largest_distance_difference"] < 1e-3
    assert 1 < document["largest_compared"] < 2**15
    assert document["nearest_to_threshold"] == min(abs(row.distance - 0.6) for row in rows)


def test_plain_is_what_emulated_is_compared_with(options: EvaluationOptions, emulated: Evaluation) -> None:
    plain = evaluate(options)
    assert [row.distance for row in plain.decisions] == [row.reference_distance for row in emulated.decisions]
    assert plain.document["accuracy"] == emulated.document["plain_accuracy"]
    assert "differing_decisions" not in plain.document


def test_a_tar_file_in_worker_processes_gives_the_same(
    data: Path, options: EvaluationOptions, emulated: Evaluation
) -> None:
    photos, cache, cut = sorted(PORTRAITS), data / "other", (16, 0.25)
    align(open_photos(data / "faces.tar"), photos, cache, (cut,), workers=1, shown=False)  # spares two processes
    again = evaluate(replace(options, images=data / "faces.tar", cache=cache, workers=2))
    assert [row.distance for row in again.decisions] == [row.reference_distance for row in emulated.decisions]


def test_some_folds_with_a_threshold_from_the_others(options: EvaluationOptions, emulated: Evaluation) -> None:
    some = evaluate(replace(options, folds=(2,), mode=EvalMode.EMULATED))
    assert (some.document["pairs"], some.document["folds"]) == (2, [2])
    assert some.decisions == emulated.decisions[2:], "of two folds, the other one is all the others"
    assert some.document["accuracy_std"] is None
    with pytest.raises(ImageError, match="expected some of the folds 1 to 2"):
        evaluate(replace(options, folds=(3,)))


def test_a_limit(options: EvaluationOptions) -> None:
    drawn = evaluate(replace(options, limit=3, seed=1))
    assert (drawn.document["pairs"], drawn.document["drawn_with_seed"]) == (3, 1)
    with pytest.raises(ParameterError, match="at least two folds"):
        evaluate(replace(options, limit=1))


def test_nothing_is_computed_twice(
    options: EvaluationOptions, emulated: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        pytest.fail("a photo was embedded again")

    digest = Network(load_model("tiny-test")).digest()  # which asks the emulator once
    monkeypatch.setattr(Network, "digest", lambda _: digest)
    monkeypatch.setattr(Network, "plain", fail)
    monkeypatch.setattr(Network, "emulated", fail)
    assert evaluate(replace(options, mode=EvalMode.EMULATED)).decisions == emulated.decisions


def test_other_weights_are_other_embeddings() -> None:
    model = load_model("tiny-test")
    assert model.weights is not None
    digests = {Network(model).digest(), Network(load_model("tiny-test")).digest()}
    assert len(digests) == 1
    first = next(iter(model.weights.values()))
    first.weight.flat[0] += 0.5
    digests.add(Network(model).digest())
    digests.add(Network(replace(load_model("tiny-test"), normalise=lambda chip: model.normalise(chip) * 0.5)).digest())
    assert len(digests) == 3


def test_a_photo_without_a_face_counts_as_its_middle(data: Path, options: EvaluationOptions, tmp_path: Path) -> None:
    shutil.copytree(data / "faces", tmp_path / "faces")
    Image.new("RGB", (100, 80), (9, 99, 199)).save(tmp_path / "faces/Cay/Cay_0001.jpg")
    result = evaluate(replace(options, images=tmp_path / "faces", cache=tmp_path / "cache"))
    assert result.document["undetected"] == 1


def test_wrong_decisions_are_counted_and_named(
    options: EvaluationOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emulator that is off by far shows in every figure."""
    real = Network.emulated
    monkeypatch.setattr(
        Network, "emulated", lambda self, chip: (real(self, chip)[0] * (1 + int(chip[0, 0, 0]) % 7), 2.0)
    )
    result = evaluate(replace(options, mode=EvalMode.EMULATED, cache=tmp_path))
    document = result.document
    assert document["differing_decisions"] == len(document["differing"]) > 0
    first = document["differing"][0]
    assert (first["distance"] < 0.6) != (first["reference_distance"] < 0.6)
    assert document["largest_distance_difference"] > 0.1
    assert accuracy_table(document).row_count > len(document["differing"])


# Sessions


def test_wrong_decisions_of_a_protocol_are_told_apart() -> None:
    people_and_decisions = [(False, True), (False, True), (True, False), (True, True), (False, False)]
    decisions = [
        Decision(1, "a", "b", same, 0.5, decision, reference_decision=True) for same, decision in people_and_decisions
    ]
    document = session_document(decisions, is_relative=False)
    assert (document["false_accepts"], document["false_rejects"]) == (2, 1)
    assert (document["threshold_accuracy"], document["differing_decisions"]) == (0.4, 2)


class FakeSession:
    """Answers from the network in the clear, with an error in the score; counts what it is asked."""

    ERROR = 1.23456e-3

    def __init__(self, model: Model, mode: Mode, log: list[str], wrong: int | None = None) -> None:
        self.network, self.mode, self.log, self.wrong = Network(model), mode, log, wrong
        self.asked = 0

    def __enter__(self) -> "FakeSession":
        self.log.append("open")
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append("closed")

    def enroll(self, photo: Any, name: str | None = None, aligned: bool = False) -> Any:
        assert aligned
        return SimpleNamespace(name="t", embedding=self.network.plain(photo))

    def verify(self, first: Any, second: Any, aligned: bool = False) -> Any:
        assert aligned
        self.log.append("verify")
        if len(self.log) == 4 and self.wrong == -1:
            raise ConnectionError("the session broke off")
        squared = float(np.square(self.network.plain(first) - second.embedding).sum()) * (1 + self.ERROR)
        match = (squared < self.network.model.threshold**2) != (self.asked == self.wrong)
        self.asked += 1
        return SimpleNamespace(match=match, squared_distance=squared)


@pytest.fixture
def any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny network, which is no patch network, pass for one."""
    monkeypatch.setattr("hybridface.measure.accuracy.evaluation.pure_he_terms", lambda _: None)


@pytest.mark.usefixtures("any_model")
def test_pure_he_is_compared_with_the_network_in_the_clear(
    options: EvaluationOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWERS", 3)
    log: list[str] = []
    given = replace(options, mode=EvalMode.PURE_HE, limit=0)
    result = evaluate(given, lambda model, mode: FakeSession(model, mode, log, wrong=1))
    assert log == ["open", "verify", "verify", "verify", "closed", "open", "verify", "closed"]
    assert result.document["differing_decisions"] == 1
    assert result.document["differing"][0]["first"] == result.decisions[1].first
    assert result.document["largest_relative_distance_error"] == 1.2e-3
    assert (result.document["accuracy"], result.document["reference"]) == (None, "plain")
    write_results(tmp_path, result)
    assert not (tmp_path / "roc.png").exists()
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open()))
    assert [row["error"] for row in rows] == ["0.0012"] * 4, "no digit of a decrypted score beyond the second"
    (kept,) = options.cache.rglob("*-pure-he/error.npy")
    assert np.load(kept).tolist() == [1.2e-3] * 4, "nor on this disk"
    assert [row["decision"] != row["reference_decision"] for row in rows] == [False, True, False, False]


@pytest.mark.usefixtures("any_model")
def test_sessions_go_on_where_they_were(options: EvaluationOptions, tmp_path: Path) -> None:
    log: list[str] = []
    given = replace(options, mode=EvalMode.PURE_HE, limit=4, cache=tmp_path)
    with pytest.raises(ConnectionError):
        evaluate(given, lambda model, mode: FakeSession(model, mode, log, wrong=-1))
    assert log == ["open", "verify", "verify", "verify", "closed"]
    log.clear()
    result = evaluate(given, lambda model, mode: FakeSession(model, mode, log))
    assert log == ["open", "verify", "verify", "closed"], "two of four were done"
    assert len(result.decisions) == 4


@pytest.mark.slow
def test_the_hybrid_itself(options: EvaluationOptions) -> None:
    result = evaluate(replace(options, mode=EvalMode.HYBRID, limit=2))
    document = result.document
    assert (document["pairs"], document["reference"], document["differing_decisions"]) == (2, "emulated", 0)
    assert 0 < document["largest_embedding_difference"] < 8 / 2**16
    assert document["threshold_accuracy"] == np.mean([row.decision == row.same for row in result.decisions])


# Files and the command


@pytest.mark.slow
def test_files(emulated: Evaluation, tmp_path: Path) -> None:
    write_results(tmp_path, emulated)
    assert json.loads((tmp_path / "result.json").read_text()) == emulated.document
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open()))
    assert [row["same"] for row in rows] == ["1", "0", "1", "0"]
    assert [float(row["distance"]) for row in rows] == [decision.distance for decision in emulated.decisions]
    assert rows[0]["first"] == "Ann/Ann_0001.jpg"
    with Image.open(tmp_path / "roc.png") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50, "something is drawn"


def test_measured_figures_of_the_shipped_models() -> None:
    documents = measured_accuracy()
    assert {document["model"] for document in documents} == set(MODELS) - {"tiny-test"}
    for document in documents:
        assert document["mode"] in list(EvalMode)
        assert document["command"].startswith("hybridface eval lfw --images ")
        assert f"--model {document['model']}" in document["command"] or document["model"] == "dlib-resnet29"
        if document["mode"] in (EvalMode.PLAIN, EvalMode.EMULATED):
            assert 0.5 < document["accuracy"] <= 1
            assert 0 < document["tar_at_far"]["0.001"] <= document["tar_at_far"]["0.01"] <= 1
            assert 0 <= document["eer"] < 0.5
        else:
            assert document["accuracy"] is None
            assert document["pairs"] >= 3


@pytest.fixture
def call(call: Callable[..., Done]) -> Callable[..., Done]:
    """Run `hybridface eval lfw` in this process."""
    return partial(call, "eval", "lfw")


@pytest.mark.slow
def test_the_command(call: Callable[..., Done], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--images", data / "faces", "--pairs", data / "pairs.txt", "--model", "tiny-test", "--workers", 1]
    given += ["--cache", tmp_path / "cache"]
    status, out, errors = call(*given, "--mode", "emulated", "--json")
    assert (status, errors) == (0, "")
    folder = tmp_path / "lfw-tiny-test-emulated"
    assert json.loads(out) == json.loads((folder / "result.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"result.json", "pairs.csv", "roc.png"}
    status, out, errors = call(*given, "--folds", "2", "--output", tmp_path / "out", "--quiet", "--face", "largest")
    assert (status, errors) == (0, "")
    assert "tiny-test, plain: 2 pairs of LFW, folds 2" in out
    assert "accuracy, thresholds from other folds" in out
    assert json.loads((tmp_path / "out/result.json").read_text())["face"] == FaceChoice.LARGEST


def test_worker_processes_run_nothing_of_the_current_folder(
    call: Callable[..., Done], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\nraise SystemExit(1)\n")
    given = ["--images", data / "faces", "--pairs", data / "pairs.txt", "--model", "tiny-test", "--workers", 2]
    status, _, errors = call(*given, "--cache", "none", "--output", tmp_path / "out", "--quiet")
    assert (status, errors) == (0, "")
    assert not (tmp_path / "was run").exists()


def test_no_cache_keeps_nothing(
    call: Callable[..., Done], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    given = ["--images", data / "faces", "--pairs", data / "pairs.txt", "--model", "tiny-test", "--workers", 1]
    assert call(*given, "--cache", "none", "--output", tmp_path / "out", "--quiet")[0] == 0
    assert not (tmp_path / "user").exists()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_errors(call: Callable[..., Done], data: Path, tmp_path: Path) -> None:
    given = {"--images": data / "faces", "--pairs": data / "pairs.txt", "--model": "tiny-test", "--workers": 1}
    given |= {"--output": tmp_path / "out", "--cache": tmp_path / "cache"}

    def error(**changed: object) -> str:
        words = given | {f"--{name}": value for name, value in changed.items()}
        status, out, errors = call(*(word for option in words.items() for word in option), "--quiet")
        assert (status, out, errors.count("\n")) == (2, "", 1), errors
        assert errors.startswith("hybridface: ")
        return errors

    assert "expected folds like 7,8, got 'last'" in error(folds="last")
    assert "expected some of the folds 1 to 2" in error(folds="3")
    assert "expected a model named" in error(model="nobody")
    assert "expected a tar file or folder of photos, got No such file" in error(images=tmp_path / "none.tar")
    assert "expected a tar file or folder of photos, got file could not" in error(images=data / "pairs.txt")
    assert "expected pairs in LFW's format" in error(pairs=tmp_path / "none.txt")
    assert "expected a patch network" in error(mode="pure-he")
    (tmp_path / "file").write_text("")
    assert "expected a folder to write to" in error(output=tmp_path / "file")
    assert "expected a folder to write to" in error(cache=tmp_path / "file")
    (tmp_path / "pairs.txt").write_text(PAIRS.replace("Cay", "Nobody"))
    assert "found no Nobody/Nobody_0001.jpg" in error(pairs=tmp_path / "pairs.txt")
    del given["--output"]
    assert "expected a model named" in error(model=f"{tmp_path}/made")
    assert not list(tmp_path.glob("made*"))
    assert call("--mode", "guess")[0] == 2
