"""Training of patch networks: export, checkpoints, losses, the split of people, and a whole run on a few portraits."""

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hybridface.commands import main as cli
from hybridface.errors import ImageError, ModelError
from hybridface.faces import alignment
from hybridface.models import budget
from hybridface.models.model import load_model
from hybridface.models.patchnet import (
    PatchNet,
    PatchShape,
    PatchWeights,
    cut,
    mirrored,
    read_patchnet,
    read_ranges,
    read_shape,
    stored,
    write_patchnet,
)
from hybridface.photos import photo_path
from hybridface.train import accuracy, agreement, distil, export, loop, losses, student, views
from support.paths import ROOT

GRID = distil.patch_grid(32, 2, (0, 32))
WIDTHS = (6, 4)
OUTPUTS, COMPONENTS = 5, 20
PORTRAITS = {
    "Ann/Ann_0001.jpg": "person_a_1.jpg",
    "Ann/Ann_0002.jpg": "person_a_2.jpg",
    "Bea/Bea_0001.jpg": "person_b_1.jpg",
    "Bea/Bea_0002.jpg": "person_b_2.jpg",
    "Cay/Cay_0001.jpg": "impostor_1.jpg",
    "Dov/Dov_0001.jpg": "impostor_2.jpg",
}
PAIRS = "2\t1\nAnn\t1\t2\nAnn\t1\tCay\t1\nBea\t1\t2\nBea\t1\tDov\t1\n"


def faces(count: int, seed: int = 1) -> NDArray[np.uint8]:
    """Smooth random chips (count, 64, 64, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (count, 3, 6, 6)))
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return np.ascontiguousarray(smooth.byte().permute(0, 2, 3, 1).numpy())


@pytest.fixture(scope="module")
def basis() -> student.Basis:
    return student.fit_basis(faces(200), GRID, COMPONENTS)


@pytest.fixture(scope="module")
def examples(basis: student.Basis) -> loop.Examples:
    """Chips, and targets of length 1 that depend on their colours."""
    images = faces(200)
    means = torch.from_numpy(images.reshape(200, 2, 32, 64, 3).mean((2, 3)).reshape(200, 6)[:, :OUTPUTS]).float()
    centred = means - means.mean(0)
    return loop.Examples(basis.coefficients(images), centred / centred.norm(dim=1, keepdim=True))


def trainer(steps: int = 40, seed: int = 3) -> loop.Trainer:
    students = [student.PatchStudent(len(GRID), COMPONENTS, WIDTHS, OUTPUTS, seed) for _ in range(2)]
    return loop.Trainer(students[0], students[1], loop.Schedule(steps, batch=64, rate=1e-2, seed=seed))


def embed(shape: PatchShape, weights: PatchWeights, images: NDArray[np.uint8]) -> Any:
    inputs = np.stack([shape.normalise(image) for image in images])
    return PatchNet.from_weights(shape, weights)(torch.from_numpy(inputs)).detach()


def test_a_short_run_lowers_the_losses(examples: loop.Examples) -> None:
    seen: list[float] = []
    run = trainer(60)
    run.run(examples, on_step=lambda step, steps, parts: seen.append(float(parts.total)))
    assert len(seen) == run.step == 60
    assert np.mean(seen[-10:]) < 0.7 * np.mean(seen[:5])


@pytest.mark.parametrize("contrast", [False, True])
def test_export_is_the_student(examples: loop.Examples, contrast: bool) -> None:
    run = trainer()
    run.run(examples)
    shape, images = PatchShape(GRID, WIDTHS, OUTPUTS, 1.0, contrast), faces(30, seed=8)
    basis = student.fit_basis(faces(200), GRID, COMPONENTS, contrast)
    weights = export.fold(run.average, basis)
    values = cut(torch.from_numpy(images), GRID, contrast).double()
    coefficients = torch.einsum("npi,ic->npc", values, basis.directions.double()) + basis.offset.double()
    with torch.no_grad():
        expected, before_squares = run.average.double()(coefficients)
    assert float((embed(shape, weights, images) - expected).abs().max()) < 1e-6
    peaks = export.peak_values(weights, shape, images)
    for peak, value in zip(peaks, before_squares, strict=True):
        np.testing.assert_allclose(peak.reshape(-1), value.abs().amax(0).numpy(), atol=1e-6)
    rescaled = export.rescaled(weights, peaks)
    assert float((embed(shape, rescaled, images) - expected).abs().max()) < 1e-6
    for peak in export.peak_values(rescaled, shape, images):
        np.testing.assert_allclose(peak, student.RANGE)


def test_joined_students_give_their_mean(basis: student.Basis) -> None:
    images, weights = faces(5), [export.fold(trainer(seed=seed).average, basis) for seed in (1, 2)]
    each = [embed(PatchShape(GRID, WIDTHS, OUTPUTS, 1.0), member, images) for member in weights]
    both = embed(PatchShape(GRID * 2, WIDTHS, OUTPUTS, 1.0), export.joined(weights), images)
    assert float((both - (each[0] + each[1]) / 2).abs().max()) < 1e-9


@pytest.mark.parametrize("contrast", [False, True])
def test_a_mirrored_network_gives_the_mean_of_face_and_mirror_image(
    basis: student.Basis, contrast: bool, tmp_path: Path
) -> None:
    images, patches = faces(5), ((0, 0, 32, 2), (16, 10, 32, 2), (32, 32, 32, 2), (0, 0, 32, 2))
    shape = PatchShape(patches, WIDTHS, OUTPUTS, 1.0, contrast)
    weights = export.fold(trainer(seed=2).average, basis)
    mean = (embed(shape, weights, images) + embed(shape, weights, images[:, :, ::-1])) / 2
    assert float((embed(shape, weights, images) - mean).abs().max()) > 1e-2
    assert float((embed(*mirrored(shape, weights), images) - mean).abs().max()) < 1e-5
    write_patchnet(tmp_path / "net.npz", shape, weights, mirror=True)
    read = read_patchnet(tmp_path / "net.npz")
    assert len(read[0].patches) == len(read_shape(tmp_path / "net.npz").patches) == 2 * len(patches)
    assert float((embed(*read, images) - embed(*mirrored(shape, stored(weights)), images)).abs().max()) < 1e-9
    with pytest.raises(ModelError, match="expected patches within"):
        mirrored(PatchShape(((0, 0, 48, 3), *((0, 15, 48, 3),) * 3), WIDTHS, OUTPUTS, 1.0), weights)


def test_a_resumed_run_ends_exactly_as_an_uninterrupted_one(examples: loop.Examples, tmp_path: Path) -> None:
    through, first, second = trainer(12), trainer(12), trainer(12, seed=3)
    through.run(examples)
    first.run(examples, until=5)
    first.save(tmp_path / "checkpoint", "same")
    second.resume(tmp_path / "checkpoint", "same")
    assert second.step == 5
    second.run(examples)
    for attribute in ("student", "average"):
        expected, got = getattr(through, attribute).state_dict(), getattr(second, attribute).state_dict()
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_checkpoints_of_other_options_are_refused(examples: loop.Examples, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer().save(path, "these")
    with pytest.raises(ModelError, match="written with other options"):
        trainer().resume(path, "those")
    path.write_text("no archive")
    with pytest.raises(ModelError, match="cannot resume from"):
        trainer().resume(path, "these")


def test_a_checkpoint_is_whole_or_the_one_before(
    examples: loop.Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "checkpoint", trainer(12)
    run.save(path, "same")
    before = path.read_bytes()
    run.run(examples, until=3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parties.machine.durable.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save(path, "same")
    assert path.read_bytes() == before


KILLED = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
import test_train
test_train.run_and_save_every_step(Path({path!r}))
"""


def run_and_save_every_step(path: Path) -> loop.Trainer:
    """Go on from the checkpoint, if there is one, and save after every step."""
    fitted = student.fit_basis(faces(100), GRID, COMPONENTS)
    targets = torch.randn(100, OUTPUTS, generator=torch.Generator().manual_seed(1))
    run = trainer(60)
    if path.is_file():
        run.resume(path, "same")
    while run.step < 60:
        run.run(loop.Examples(fitted.coefficients(faces(100)), targets), run.step + 1)
        run.save(path, "same")
    return run


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    source = KILLED.format(paths=[str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)], path=str(path))
    process = subprocess.Popen([sys.executable, "-c", source])
    while not path.is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed = run_and_save_every_step(path).average.state_dict()
    through = run_and_save_every_step(tmp_path / "through").average.state_dict()
    assert all(torch.equal(killed[name], through[name]) for name in through)


def test_levels_have_the_room_that_the_modulus_leaves() -> None:
    ranges = budget.Ranges((4.0, 8.0, 16.0), 0.5, 2.0)
    levels = {level.name: level for level in budget.check_budget(ranges)}
    assert list(levels) == ["affine 1", "square 1", "affine 2", "square 2", "affine 3", "square 3", "join", "distance"]
    assert [level.primes for level in levels.values()] == [9, 8, 7, 6, 5, 4, 3, 2]
    distance = levels["distance"]
    assert (distance.room_bits, distance.headroom_bits) == (15, 13)  # 2^(56 - 40 - 1) over 2^2
    assert levels["square 3"].headroom_bits == 56 + 3 * 40 - 2 * 40 - 1 - 8


@pytest.mark.parametrize(
    ("ranges", "where"),
    [
        (budget.Ranges((4.0, 4.0, 4.0), 25.0, 50.0), "distance: values up to 2.5e.03, room for 2\\^15"),
        (budget.Ranges((2.0**40, 4.0, float("inf")), 1.0, 1.0), "affine 3: values up to inf"),
        (budget.Ranges((4.0, 4.0, 4.0), 1.0, float("nan")), "distance: values up to nan"),
    ],
    ids=["distance", "square", "nan"],
)
def test_values_without_room_are_refused(ranges: budget.Ranges, where: str) -> None:
    with pytest.raises(ModelError, match=f"expected 4 bits of headroom at every level, got .* at {where}"):
        budget.check_budget(ranges)


def test_a_square_wraps_where_its_room_ends() -> None:
    """The room that is promised for the distance is the one that the encryption has."""
    room = {level.name: level.room_bits for level in budget.check_budget(budget.Ranges((1.0,), 1.0, 1.0))}
    parameters = budget.PureHeParameters.for_squares(1)
    assert room["distance"] == parameters.first_bits - parameters.scale_bits - 1


def test_without_labels_the_teacher_fixes_the_threshold() -> None:
    random = np.random.default_rng(4)
    people = random.normal(size=(30, 8))
    teacher = np.concatenate([people + random.normal(scale=0.02, size=people.shape) for _ in range(3)])
    student_sees = 2 * teacher + random.normal(scale=0.02, size=teacher.shape)
    found = agreement.agree(student_sees, teacher, limit=0.6, unit=0.5, seed=1)
    assert (found.pairs, found.share) == (180, 1.0)
    assert 0.1 < found.threshold < 4 * 0.6**2 * 10
    alone = agreement.agree(2 * people, people, limit=0.6, unit=0.5, seed=1)
    assert alone == agreement.Agreement(pytest.approx(1.44), 0, 0.0)


def test_photos_are_held_out_by_folder_where_there_are_folders() -> None:
    photos = [f"{name}/{number}.jpg" for name in range(40) for number in range(3)]
    held_out = agreement.held_out_photos(photos, 0.1, seed=2)
    assert held_out.sum() == 12
    assert all(len(set(held_out[row : row + 3])) == 1 for row in range(0, 120, 3))
    assert agreement.held_out_photos([f"{number}.jpg" for number in range(50)], 0.1, seed=2).sum() == 5
    with pytest.raises(ImageError, match="expected photos to hold out a fraction of 0.1 of, got 3"):
        agreement.held_out_photos(["a.jpg", "b.jpg", "c.jpg"], 0.1, seed=2)


def test_losses_vanish_for_the_teachers_own_answers() -> None:
    targets = torch.nn.functional.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(2)))
    parts = losses.distillation(targets, [torch.full((9, 3), student.RANGE)], targets)
    assert float(parts.total) < 1e-6
    parts = losses.distillation(2 * targets, [torch.full((9, 3), -student.RANGE - 1)], targets)
    assert float(parts.direction) < 1e-6
    assert (float(parts.length), float(parts.range)) == pytest.approx((9.0, 1.0), rel=1e-5)


def test_views_are_faces_and_depend_on_the_seed_alone() -> None:
    wide = torch.nn.functional.interpolate(torch.from_numpy(faces(4)).permute(0, 3, 1, 2).float(), size=190)
    first, again, other = (
        views.random_faces(wide, wide.flip(0), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (4, 3, 150, 150)
    assert 0 <= float(first.min()) < float(first.max()) <= 255
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_threshold_lies_between_what_it_tells_apart() -> None:
    distances, same = np.array([0.1, 0.2, 0.9, 0.3]), np.array([True, True, False, True])
    assert accuracy.soft_threshold(distances, same) == pytest.approx(0.6, abs=0.01)
    assert accuracy.soft_threshold(7 * distances, same) == pytest.approx(4.2, abs=0.07)


def test_threshold_is_where_two_normal_distributions_cross() -> None:
    random = np.random.default_rng(6)
    distances = np.concatenate([random.normal(1.0, 0.2, 4000), random.normal(1.6, 0.2, 4000)])
    assert accuracy.soft_threshold(distances, np.arange(8000) < 4000) == pytest.approx(1.3, abs=0.02)


def test_folds(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(PAIRS)
    split = accuracy.read_split(path, [2])
    assert [len(split.training), len(split.held_out), split.people()] == [2, 2, {"Bea", "Dov"}]
    for folds in ([], [3], [1, 2]):
        with pytest.raises(ImageError, match="expected some of the folds 1 to 2 to hold out"):
            accuracy.read_split(path, folds)
    path.write_text(PAIRS.replace("2\t1", "3\t1", 1))
    with pytest.raises(ImageError, match="expected 3 folds of 2 pairs, got 4 pairs"):
        accuracy.read_split(path, [2])


# The command


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit status, standard output, standard error."""

    def main(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hybridface", "train", *map(str, arguments)])
        status: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        return int(status or 0), *capfd.readouterr()

    return main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.txt and faces.tar."""
    root = tmp_path_factory.mktemp("train")
    for name, portrait in PORTRAITS.items():
        (root / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo_path(portrait), root / "faces" / name)
    with tarfile.open(root / "faces.tar", "w") as archive:
        archive.add(root / "faces", "faces")
    (root / "pairs.txt").write_text(PAIRS)
    return root


def test_a_whole_run(call: Callable[..., tuple[int, str, str]], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_run_without_labels(
    call: Callable[..., tuple[int, str, str]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    call: Callable[..., tuple[int, str, str]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_errors(call: Callable[..., tuple[int, str, str]], data: Path, tmp_path: Path) -> None:
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
