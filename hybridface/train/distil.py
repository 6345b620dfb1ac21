"""From photos to a model file: align, ask the teacher, train, fold, fix the threshold, measure, write.

What is held out is removed before anything is learned: before the basis, the views, and the threshold. With pairs it
is some folds' people, and the threshold is the best one for the other folds; without, a fraction of the photos, on
which the student should decide as the teacher does.
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
    """Return square patches at all pairs of `starts`, row by row."""
    return tuple((top, left, side, pool) for top in starts for left in starts)


PATCHES = patch_grid(32, 2, (0, 10, 22, 32))
"""Sixteen overlapping patches of half the face's side, at half resolution: 16x16 values of three channels each."""


@dataclass(frozen=True)
class DistilOptions:
    """What decides a student, beside the photos.

    Args:
        held_out: with pairs, folds whose people are not trained on.
        fraction: without pairs, of the photos, that are not trained on.
        teacher: the name of a model.
        widths: values per patch after every square.
        components: principal components of a patch that are looked at.
        views: changed copies of every face.
        epochs: passes over as many examples as there are photos.
        contrast: whether the client normalises the contrast of a face.
        mirror: whether the result is the mean over a face and its mirror image: twice the patches.
        members: students, of consecutive seeds, whose mean is the result: a network of that many times the patches.
        batch, rate, decay, seed: as in `Schedule`.
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
        """Return a digest by which a checkpoint is known to belong to these options."""
        return hashlib.sha256(json.dumps([asdict(self), PATCHES, photos]).encode()).hexdigest()


@dataclass(frozen=True)
class DistilResult:
    """A trained student.

    Args:
        accuracy: of the file's network in float64, on the pairs; None without.
        agreement: with the teacher; None with pairs.
        ranges: largest magnitude before each square on the held-out photos; on training photos it is `RANGE`.
        budget: what the encryption's levels leave above the largest magnitudes of all these photos.
        people, photos: folders and photos that were trained on.
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
    """Train a student and write it to `output`, and its public part, for clients, to OUTPUT.public.npz.

    Checkpoints lie beside it until then.

    Args:
        images: a folder or a tar file; for pairs with NAME/PHOTO.jpg, one NAME per person, else of any form.
        pairs: in LFW's format, with folds.
        cache: a folder for aligned faces and the teacher's answers.
        resume: go on from the checkpoint, if there is one.
        on_step: as in `Trainer.run`.

    Raises:
        ImageError: images or pairs cannot be used.
        ModelError: the teacher is unknown, the checkpoint is of other options, or the student's values leave no room
            in the ciphertexts.
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
    """Return the mean of the students, as the file keeps it, with values in range on some chips.

    Args:
        chips: that were trained on; their mirror images count too if they will be seen.
    """
    outputs, weights = len(trained[0].join[1]), joined(trained)
    shape = PatchShape(PATCHES * len(trained), options.widths, outputs, 1.0, options.contrast)
    seen = [chips, chips[:, :, ::-1]] if options.mirror else [chips]
    peaks = zip(*(peak_values(weights, shape, some) for some in seen), strict=True)
    return shape, stored(rescaled(weights, [np.maximum.reduce(values) for values in peaks]))


def split_rows(
    chips: Chips, split: Split | None, options: DistilOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of detected faces to train on, and of those held out.

    Raises:
        ImageError: there are none to train on.
    """
    if split:
        people = split.people()
        held_out = np.array([photo.split("/")[0] in people for photo in chips.photos])
    else:
        held_out = held_out_photos(chips.photos, options.fraction, options.seed)
    rows = np.flatnonzero(chips.detected & ~held_out)
    if not len(rows):
        raise ImageError("expected photos with a face beside those that are held out, found none")
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
    chips: Chips, rows: NDArray[np.int64], teacher: Teacher, options: DistilOptions, shown: bool
) -> tuple[Basis, Examples, float]:
    """Return the basis; clean faces, mirrored faces and views with the teacher's centred answers; and their unit.

    The unit is the mean length of the centred answers, by which all are divided.
    """
    clean = clean_answers(chips, teacher, shown)[:, rows]
    mean = clean.mean((0, 1))
    unit = float(np.linalg.norm(clean[0] - mean, axis=1).mean())
    faces: NDArray[np.uint8] = chips.small[rows]
    chosen = np.random.default_rng(options.seed).permutation(len(faces))[:BASIS_ROWS]
    basis = fit_basis(faces[np.sort(chosen)], PATCHES, options.components, options.contrast)
    coefficients = [basis.coefficients(faces), basis.coefficients(faces[:, :, ::-1])]
    answers = [clean.mean(0)] * 2  # a face and its mirror image are one person's
    for number in range(options.views):
        view, answer = load_view(chips, rows, teacher, options.seed, number, shown)
        coefficients += [basis.coefficients(view), basis.coefficients(view[:, :, ::-1])]
        answers += [answer, answer]
    targets = torch.from_numpy((np.concatenate(answers) - mean) / unit)
    return basis, Examples(torch.cat(coefficients), targets), unit
