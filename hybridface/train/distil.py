"""From photos to a model file: align, ask the teacher, train, fold, fix the threshold, measure, write.

The held-out folds' people are removed before anything is learned: before the basis, the views, and the threshold.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.models import load_model
from hybridface.models.patchnet import PatchNet, PatchShape, PatchWeights, cut, stored, write_patchnet
from hybridface.train.accuracy import Accuracy, Split, measure, read_split
from hybridface.train.chips import Chips, load_chips
from hybridface.train.export import fold, joined, peak_values, rescaled
from hybridface.train.loop import Examples, OnStep, Schedule, Trainer
from hybridface.train.student import Basis, Patches, PatchStudent, fit_basis
from hybridface.train.views import Teacher, clean_answers, load_view

__all__ = ["PATCHES", "Options", "Result", "distil", "patch_grid", "train_on"]

BASIS_ROWS, SAVE_STEPS = 6000, 500


def patch_grid(side: int, pool: int, starts: tuple[int, ...]) -> Patches:
    """Return square patches at all pairs of `starts`, row by row."""
    return tuple((top, left, side, pool) for top in starts for left in starts)


PATCHES = patch_grid(32, 2, (0, 10, 22, 32))
"""Sixteen overlapping patches of half the face's side, at half resolution: 16x16 values of three colours each."""


@dataclass(frozen=True)
class Options:
    """What decides a student, beside the photos.

    Args:
        held_out: folds whose people are not trained on.
        teacher: the name of a model.
        widths: values per patch after every square.
        components: principal components of a patch that are looked at.
        views: changed copies of every face.
        epochs: passes over as many examples as there are photos.
        members: students, of consecutive seeds, whose mean is the result: a network of that many times the patches.
        batch, rate, decay, seed: as in `Schedule`.
    """

    held_out: tuple[int, ...] = (7, 8)
    teacher: str = "dlib-resnet29"
    widths: tuple[int, ...] = (64, 64, 64)
    components: int = 192
    views: int = 7
    epochs: int = 130
    members: int = 2
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.05
    seed: int = 0

    def fingerprint(self, photos: int) -> str:
        """Return a digest by which a checkpoint is known to belong to these options."""
        return hashlib.sha256(json.dumps([asdict(self), PATCHES, photos]).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """A trained student.

    Args:
        accuracy: of the file's network in float64.
        ranges: largest magnitude before each square on the held-out photos; on training photos it is `RANGE`.
        people, photos: that were trained on.
    """

    accuracy: Accuracy
    ranges: tuple[float, ...]
    people: int
    photos: int


def distil(
    images: Path,
    pairs: Path,
    output: Path,
    options: Options,
    cache: Path,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 2,
    shown: bool = True,
    on_step: OnStep | None = None,
) -> Result:
    """Train a student and write it to `output`; its checkpoint lies beside it until then.

    Args:
        images: a folder or a tar file with NAME/PHOTO.jpg, one NAME per person.
        pairs: in LFW's format, with folds.
        cache: a folder for aligned faces and the teacher's answers.
        resume: go on from the checkpoint, if there is one.
        on_step: as in `Trainer.run`.

    Raises:
        ImageError: images or pairs cannot be used.
        ModelError: the teacher is unknown, or the checkpoint is of other options.
    """
    split = read_split(pairs, options.held_out)
    teacher = Teacher(load_model(options.teacher), device)
    chips = load_chips(images, cache, workers, shown)
    rows = training_rows(chips, split)
    basis, examples = _learned_from(chips, rows, teacher, options, shown)
    checkpoints = [output.with_name(f"{output.name}.checkpoint{member or ''}") for member in range(options.members)]
    members = [
        replace(options, seed=options.seed + member, members=1) if member else options
        for member in range(options.members)
    ]
    trained = [
        fold(train_on(examples, member, len(rows), checkpoint, resume, device, on_step).average, basis)
        for member, checkpoint in zip(members, checkpoints, strict=True)
    ]
    weights = joined(trained)
    shape = PatchShape(PATCHES * options.members, options.widths, examples.targets.shape[1], 1.0)
    weights = rescaled(weights, peak_values(weights, shape, chips.small[rows]))
    accuracy, ranges = _judge(chips, split, shape, weights)
    shape = PatchShape(shape.patches, shape.widths, shape.outputs, accuracy.threshold)
    write_patchnet(output, shape, weights, options=json.dumps(asdict(options)))
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    people = {chips.photos[row].split("/")[0] for row in rows}
    return Result(accuracy, ranges, len(people), len(rows))


def training_rows(chips: Chips, split: Split) -> NDArray[np.int64]:
    """Return the rows of detected faces of people in no held-out pair.

    Raises:
        ImageError: there are none.
    """
    people = split.people()
    rows = [i for i, photo in enumerate(chips.photos) if chips.detected[i] and photo.split("/")[0] not in people]
    if not rows:
        raise ImageError("expected photos of people outside the held-out folds, found none")
    return np.array(rows, dtype=np.int64)


def train_on(
    examples: Examples,
    options: Options,
    photos: int,
    checkpoint: Path,
    resume: bool = False,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> Trainer:
    """Train a new student, or go on from the checkpoint; write one every few steps."""
    _, patches, components = examples.coefficients.shape
    sizes = patches, components, options.widths, examples.targets.shape[1], options.seed
    steps = max(1, options.epochs * photos // options.batch)
    schedule = Schedule(steps, options.batch, options.rate, options.decay, options.seed)
    trainer = Trainer(PatchStudent(*sizes), PatchStudent(*sizes), schedule, device)
    fingerprint = options.fingerprint(photos)
    if resume and checkpoint.is_file():
        trainer.resume(checkpoint, fingerprint)
    while trainer.step < steps:
        trainer.run(examples, (trainer.step // SAVE_STEPS + 1) * SAVE_STEPS, on_step)
        trainer.save(checkpoint, fingerprint)
    return trainer


def _learned_from(
    chips: Chips, rows: NDArray[np.int64], teacher: Teacher, options: Options, shown: bool
) -> tuple[Basis, Examples]:
    """Return the basis, and clean faces, mirrored faces and views with the teacher's centred answers."""
    clean = clean_answers(chips, teacher, shown)[:, rows]
    mean = clean.mean((0, 1))
    length = np.linalg.norm(clean[0] - mean, axis=1).mean()
    faces: NDArray[np.uint8] = chips.small[rows]
    chosen = np.random.default_rng(options.seed).permutation(len(faces))[:BASIS_ROWS]
    basis = fit_basis(faces[np.sort(chosen)], PATCHES, options.components)
    coefficients = [basis.coefficients(faces), basis.coefficients(faces[:, :, ::-1])]
    answers = [clean.mean(0)] * 2  # a face and its mirror image are one person's
    for number in range(options.views):
        view, answer = load_view(chips, rows, teacher, options.seed, number, shown)
        coefficients.append(basis.coefficients(view))
        answers.append(answer)
    targets = torch.from_numpy((np.concatenate(answers) - mean) / length)
    return basis, Examples(torch.cat(coefficients), targets)


def _judge(chips: Chips, split: Split, shape: PatchShape, weights: PatchWeights) -> tuple[Accuracy, tuple[float, ...]]:
    """Measure the network that the file holds, rounded weights and all, on every photo of the pairs."""
    rounded = stored(weights)
    module = PatchNet.from_weights(shape, rounded)
    used = {photo for pair in (*split.training, *split.held_out) for photo in pair[:2]}
    rows = [i for i, photo in enumerate(chips.photos) if photo in used]
    embeddings: dict[str, NDArray[np.float64]] = {}
    with torch.inference_mode():
        for row in rows:
            patches = cut(torch.from_numpy(np.array(chips.small[row : row + 1])), shape.patches).double()
            embeddings[chips.photos[row]] = np.asarray(module(patches.reshape(1, -1, 1, 1))[0].numpy())
    people = split.people()
    held_out = [row for row in rows if chips.photos[row].split("/")[0] in people]
    peaks = peak_values(rounded, shape, chips.small[held_out])
    return measure(embeddings, split), tuple(float(peak.max()) for peak in peaks)
