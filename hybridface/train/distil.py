"""Make a model file from photos: align, ask the teacher, train, fold, choose the threshold, measure, write.

Held-out photos are removed before anything is learned: before the basis, the views and the threshold.

- With pairs, the photos of some folds' people are held out. The threshold is the best one for the other folds.
- Without pairs, a fraction of the photos is held out. The threshold is the one with which the student agrees most often
  with the teacher on these photos.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.models import DEFAULT_MODEL
from hybridface.models.budget import LevelBudget, check_budget
from hybridface.models.model import load_model
from hybridface.models.patchnet import PatchShape, PatchWeights, mirrored, stored, write_patchnet, write_public
from hybridface.train.accuracy import PairAccuracy, Split, read_split
from hybridface.train.agreement import Agreement, held_out_photos
from hybridface.train.chips import Chips, load_chips
from hybridface.train.export import fold, joined, peak_values, rescaled
from hybridface.train.judge import agreement_with, look, pair_accuracy, ranges_of
from hybridface.train.loop import Examples, OnStep, Schedule, Trainer
from hybridface.train.student import Basis, Patches, PatchStudent, fit_basis
from hybridface.train.views import Teacher, clean_answers, load_view

__all__ = ["PATCHES", "DistilOptions", "DistilResult", "distil", "patch_grid", "train_on"]

BASIS_ROWS, SAVE_STEPS = 6000, 500


def patch_grid(side: int, pool: int, starts: tuple[int, ...]) -> Patches:
    """Return square patches whose top and left are all pairs of `starts`, row by row."""
    return tuple((top, left, side, pool) for top in starts for left in starts)


PATCHES = patch_grid(32, 2, (0, 10, 22, 32))
"""Sixteen overlapping patches, each half as wide and high as the crop, at half resolution: 16x16 pixels, 3 channels."""


@dataclass(frozen=True)
class DistilOptions:
    """The options of a training run: with the photos, they determine the student.

    Args:
        held_out: with pairs, the folds whose people are held out from training.
        fraction: without pairs, the fraction of the photos that is held out.
        teacher: the name of the teacher model.
        widths: the number of values per patch after every square.
        components: the number of principal components of a patch that the student uses.
        views: the number of changed copies of every face.
        epochs: the number of passes; in one pass, the student sees as many examples as there are photos.
        contrast: whether the client normalises the contrast of a face.
        mirror: whether the result is the mean over a face and its mirror image. This doubles the patches.
        members: the number of students, with consecutive seeds. The result is their mean: a network with that many
            times the patches.
        batch, rate, decay, seed: see `Schedule`.
    """

    held_out: tuple[int, ...] = (7, 8)
    fraction: float = 0.1
    teacher: str = DEFAULT_MODEL
    widths: tuple[int, ...] = (64, 64, 64)
    components: int = 192
    views: int = 7
    epochs: int = 100
    contrast: bool = True
    mirror: bool = True
    members: int = 4
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.05
    seed: int = 0

    def fingerprint(self, photos: int) -> str:
        """Return a digest of the options, from which `Trainer.resume` knows that a checkpoint belongs to them."""
        return hashlib.sha256(json.dumps([asdict(self), PATCHES, photos]).encode()).hexdigest()


@dataclass(frozen=True)
class DistilResult:
    """The result of a training run.

    Args:
        accuracy: the accuracy of the file's network in float64 on the pairs; None without pairs.
        agreement: the agreement with the teacher; None with pairs.
        ranges: the largest magnitude before each square, on the held-out photos. On the training photos it is `RANGE`.
        budget: the headroom that each level of the encryption leaves above the largest magnitudes. These are taken over
            the training and the held-out photos.
        people, photos: the number of folders, and of photos, on which the student was trained.
    """

    accuracy: PairAccuracy | None
    agreement: Agreement | None
    ranges: tuple[float, ...]
    budget: tuple[LevelBudget, ...]
    people: int
    photos: int


def distil(
    images: Path,
    pairs: Path | None,
    output: Path,
    options: DistilOptions,
    cache: Path,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 2,
    shown: bool = True,
    on_step: OnStep | None = None,
) -> DistilResult:
    """Train a student and write it to `output`. Write its public part, for clients, to OUTPUT.public.npz.

    Until then, checkpoints lie beside `output`.

    Args:
        images: a folder or a tar file. With pairs, it has NAME/PHOTO.jpg, one NAME per person. Without pairs, it may
            have any form.
        pairs: a file in LFW's format, with folds.
        cache: a folder for aligned crops and the teacher's embeddings.
        resume: whether to continue from the checkpoint, if there is one.
        on_step: see `Trainer.run`.

    Raises:
        ImageError: images or pairs cannot be used.
        ModelError: the teacher is unknown, the checkpoint was written with other options, or the student's values are
            too large for the ciphertexts.
    """
    split = read_split(pairs, options.held_out) if pairs else None
    teacher = Teacher(load_model(options.teacher), device)
    chips = load_chips(images, cache, workers, shown)
    rows, held_out = split_rows(chips, split, options)
    basis, examples, unit = _learned_from(chips, rows, teacher, options, shown)
    checkpoints = [output.with_name(f"{output.name}.checkpoint{member or ''}") for member in range(options.members)]
    members = [
        replace(options, seed=options.seed + member, members=1) if member else options
        for member in range(options.members)
    ]
    trained = [
        fold(train_on(examples, member, len(rows), checkpoint, resume, device, on_step).average, basis)
        for member, checkpoint in zip(members, checkpoints, strict=True)
    ]
    half, kept = _put_together(trained, options, chips.small[rows])
    shape, weights = mirrored(half, kept) if options.mirror else (half, kept)
    trained_on, unseen = (look(chips, some, shape, weights) for some in (rows, held_out))
    ranges = ranges_of(trained_on, unseen)
    budget = check_budget(ranges)
    accuracy, agreement = None, None
    if split:
        accuracy = pair_accuracy(chips, split, shape, weights, (trained_on, unseen))
        threshold = accuracy.threshold
    else:
        agreement = agreement_with(teacher, chips, unseen, unit, options.seed)
        threshold = agreement.threshold
    half = replace(half, threshold=threshold)
    write_patchnet(output, half, kept, ranges, options.mirror, options=json.dumps(asdict(options)))
    write_public(output.with_suffix(".public.npz"), output)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    people = {chips.photos[row].split("/")[0] for row in rows}
    return DistilResult(accuracy, agreement, unseen.peaks, budget, len(people), len(rows))


def _put_together(
    trained: list[PatchWeights], options: DistilOptions, chips: NDArray[np.uint8]
) -> tuple[PatchShape, PatchWeights]:
    """Return the mean of the students with rounded weights, as the file keeps it, and scaled to `RANGE`.

    Args:
        chips: the crops of the training photos, on which the values peak at `RANGE`. With `options.mirror`, their
            mirror images count too.
    """
    outputs, weights = len(trained[0].join[1]), joined(trained)
    shape = PatchShape(PATCHES * len(trained), options.widths, outputs, 1.0, options.contrast)
    seen = [chips, chips[:, :, ::-1]] if options.mirror else [chips]
    peaks = zip(*(peak_values(weights, shape, some) for some in seen), strict=True)
    return shape, stored(rescaled(weights, [np.maximum.reduce(values) for values in peaks]))


def split_rows(
    chips: Chips, split: Split | None, options: DistilOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the training photos and of the held-out photos. Both have only photos with a detected face.

    Raises:
        ImageError: no photo is left for training.
    """
    if split:
        people = split.people()
        held_out = np.array([photo.split("/")[0] in people for photo in chips.photos])
    else:
        held_out = held_out_photos(chips.photos, options.fraction, options.seed)
    rows = np.flatnonzero(chips.detected & ~held_out)
    if not len(rows):
        raise ImageError("expected photos with a face that are not held out, found none")
    return rows, np.flatnonzero(chips.detected & held_out)


def train_on(
    examples: Examples,
    options: DistilOptions,
    photos: int,
    checkpoint: Path,
    resume: bool = False,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> Trainer:
    """Train a new student, or continue from the checkpoint. Write a checkpoint every `SAVE_STEPS` steps."""
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
    chips: Chips, rows: NDArray[np.int64], teacher: Teacher, options: DistilOptions, shown: bool
) -> tuple[Basis, Examples, float]:
    """Return the basis, the examples and the unit.

    The examples are the clean faces, their mirror images and the views. Their targets are the teacher's embeddings,
    centred and divided by the unit. The unit is the mean length of the centred embeddings of the clean faces.
    """
    clean = clean_answers(chips, teacher, shown)[:, rows]
    mean = clean.mean((0, 1))
    unit = float(np.linalg.norm(clean[0] - mean, axis=1).mean())
    faces: NDArray[np.uint8] = chips.small[rows]
    chosen = np.random.default_rng(options.seed).permutation(len(faces))[:BASIS_ROWS]
    basis = fit_basis(faces[np.sort(chosen)], PATCHES, options.components, options.contrast)
    coefficients = [basis.coefficients(faces), basis.coefficients(faces[:, :, ::-1])]
    answers = [clean.mean(0)] * 2  # a face and its mirror image have one target: they show the same person
    for number in range(options.views):
        view, answer = load_view(chips, rows, teacher, options.seed, number, shown)
        coefficients += [basis.coefficients(view), basis.coefficients(view[:, :, ::-1])]
        answers += [answer, answer]
    targets = torch.from_numpy((np.concatenate(answers) - mean) / unit)
    return basis, Examples(torch.cat(coefficients), targets), unit
