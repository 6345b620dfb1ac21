"""Measure accuracy: align and embed the photos, decide the pairs, and compare the result with its reference.

- `plain` is the network in float64.
- `emulated` is the fixed-point emulator on the same pairs. It is compared with `plain` pair by pair.
- `hybrid` and `pure-he` run some random pairs through the real protocol. Their decisions, at the model's own threshold,
  are compared one by one: those of `hybrid` with `emulated`, those of `pure-he` with `plain`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from hybridface.faces.alignment import PADDING, Aligned, align
from hybridface.faces.choice import FaceChoice
from hybridface.faces.pairs import photos_of, read_folds
from hybridface.faces.rows import RowField, Rows
from hybridface.faces.sources import open_photos
from hybridface.measure.accuracy.documents import Decision, arithmetic_document, comparison_figures, session_document
from hybridface.measure.accuracy.embeddings import Arithmetic, Embeddings, Network, embed
from hybridface.measure.accuracy.mode import EvalMode
from hybridface.measure.accuracy.selection import Selection, select
from hybridface.measure.accuracy.sessions import OpenSession, SessionPair, open_session, run_pairs
from hybridface.measure.accuracy.statistics import Roc, fold_accuracy, roc_curve, thresholds_of_pairs
from hybridface.models import DEFAULT_MODEL
from hybridface.models.model import load_model
from hybridface.models.terms import pure_he_terms
from hybridface.modes import Mode

__all__ = ["DEFAULT_SESSION_PAIRS", "Evaluation", "EvaluationOptions", "evaluate"]

DEFAULT_SESSION_PAIRS = 20


@dataclass(frozen=True)
class EvaluationOptions:
    """The options of a measurement.

    Args:
        images: a folder or tar file with NAME/NAME_0001.jpg, at any depth.
        pairs: LFW's pairs file.
        cache: a folder for aligned crops and embeddings.
        mode: how to compute the decisions.
        model: the network's name.
        limit: the maximal number of pairs, drawn with `seed`; 0 for all pairs, None for the mode's usual number.
        folds: the folds to measure; empty for all folds.
        face: which face of a photo with several faces to use.
        workers: the number of processes that align and embed.
        shown: whether to show progress bars on standard error.
    """

    images: Path
    pairs: Path
    cache: Path
    mode: EvalMode = EvalMode.PLAIN
    model: str = DEFAULT_MODEL
    limit: int | None = None
    folds: tuple[int, ...] = ()
    seed: int = 0
    face: FaceChoice = FaceChoice.CENTRE
    workers: int = 2
    shown: bool = True


@dataclass(frozen=True)
class Evaluation:
    """The result of a measurement.

    Args:
        document: all figures, as a JSON object; see docs/ACCURACY.md.
        decisions: a row for every pair.
        distances: the distances of the pairs, float64 (n,); empty for protocols.
        same: whether a pair shows one person, bool (n,); empty for protocols.
        roc: the ROC curves by arithmetic, the one of `mode` first; empty for protocols.
    """

    document: dict[str, Any]
    decisions: list[Decision]
    distances: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    same: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    roc: Mapping[str, Roc] = field(default_factory=dict)


class _Task:
    """The options, and everything that follows from them: the network, the pairs, and the faces that the pairs need."""

    def __init__(self, options: EvaluationOptions) -> None:
        folds = read_folds(options.pairs)
        self.options, self.is_session = options, options.mode in (EvalMode.HYBRID, EvalMode.PURE_HE)
        usual = DEFAULT_SESSION_PAIRS if self.is_session else 0
        self.limit = usual if options.limit is None else options.limit
        self.selection: Selection = select(folds, options.folds, self.limit, options.seed)
        self.places = self.selection.evaluated if self.is_session else self.selection.used
        self.pairs = self.selection.pairs(self.places)
        self.network = Network(load_model(options.model))
        if options.mode is EvalMode.PURE_HE:
            pure_he_terms(self.network.model)  # refuse an unsuitable model now, not only when a session starts
        photos, wanted = photos_of(folds.pairs), photos_of(self.pairs)
        cut = self.network.model.chip_size, PADDING
        source = open_photos(options.images)
        self.aligned: Aligned = align(
            source, photos, options.cache, (cut,), options.face, wanted, options.workers, options.shown
        )
        self.first = self.aligned.rows([first for first, _, _ in self.pairs])
        self.second = self.aligned.rows([second for _, second, _ in self.pairs])
        self.rows = self.aligned.rows(wanted)
        self.same = np.array([same for *_, same in self.pairs])
        self.fold_of = folds.fold_of[self.places]

    def embed(self, arithmetic: Arithmetic) -> Embeddings:
        return embed(self.network, self.aligned, self.rows, arithmetic, self.options.workers, self.options.shown)

    def about(self) -> dict[str, Any]:
        """Return the part of the document that says what was measured."""
        return {
            "model": self.options.model,
            "mode": self.options.mode.value,
            "pairs": len(self.selection.evaluated),
            "folds": list(self.selection.numbers),
            "drawn_with_seed": self.options.seed if self.limit else None,
            "face": self.options.face.value,
            "photos": len(self.rows),
            "undetected": int(np.sum(~self.aligned.detected[self.rows])),
            "threshold": self.network.model.threshold,
        }


def evaluate(options: EvaluationOptions, opener: OpenSession = open_session) -> Evaluation:
    """Measure accuracy.

    Args:
        opener: opens the sessions of the protocols.

    Raises:
        ImageError: images or pairs cannot be used, or there is no such fold.
        ModelError: the model is unknown, or cannot run in this mode.
        ParameterError: too few pairs are left to choose a threshold from other folds, or another run uses the same
            cache.
    """
    task = _Task(options)
    return _run_sessions(task, opener) if task.is_session else _compute(task)


def _compute(task: _Task) -> Evaluation:
    """Decide all pairs by their embeddings: in the arithmetic of the mode, and in float64 for comparison."""
    mode = task.options.mode
    embedded = {Arithmetic.PLAIN: task.embed(Arithmetic.PLAIN)}
    if mode is EvalMode.EMULATED:
        embedded = {Arithmetic.EMULATED: task.embed(Arithmetic.EMULATED), **embedded}
    evaluated = np.isin(task.places, task.selection.evaluated)
    same, fold_of, threshold = task.same[evaluated], task.fold_of[evaluated], task.network.model.threshold
    subset = task.selection.numbers if len(task.selection.others) else None
    figures, decided, roc = {}, {}, {}
    for arithmetic, embeddings in embedded.items():
        distances = embeddings.distances(task.first, task.second)
        accuracy = fold_accuracy(distances, task.same, task.fold_of, subset)
        mine = distances[evaluated]
        roc[arithmetic.value] = roc_curve(mine, same)
        decided[arithmetic] = mine, thresholds_of_pairs(accuracy, fold_of)
        figures[arithmetic] = arithmetic_document(accuracy, roc[arithmetic.value], mine, same, threshold)
    (distances, fold_thresholds), *references = decided.values()
    pairs = [pair for pair, used in zip(task.pairs, evaluated.tolist(), strict=True) if used]
    decisions = [
        Decision(
            int(fold_of[i]),
            *pairs[i],
            float(distances[i]),
            bool(distances[i] < threshold),
            fold_threshold=float(fold_thresholds[i]),
            fold_decision=bool(distances[i] < fold_thresholds[i]),
            reference_distance=float(references[0][0][i]) if references else None,
            reference_decision=bool(references[0][0][i] < threshold) if references else None,
            reference_fold_decision=bool(references[0][0][i] < references[0][1][i]) if references else None,
        )
        for i in range(len(pairs))
    ]
    document = {**task.about(), **next(iter(figures.values()))}
    if references:
        plain, emulated = embedded[Arithmetic.PLAIN], embedded[Arithmetic.EMULATED]
        document |= {
            f"plain_{key}": figures[Arithmetic.PLAIN][key] for key in ("accuracy", "eer", "threshold_accuracy")
        }
        document |= comparison_figures(decisions, threshold)
        difference = np.abs(plain.values[task.rows] - emulated.values[task.rows])
        document["largest_embedding_difference"] = float(difference.max())
        document["largest_compared"] = float(emulated.largest[task.rows].max()) or None  # None without comparisons
    return Evaluation(document, decisions, distances, same, roc)


def _run_sessions(task: _Task, opener: OpenSession) -> Evaluation:
    """Run the pairs through the protocol, except those that an earlier, interrupted run has done."""
    mode, model = task.options.mode, task.network.model
    arithmetic = Arithmetic.EMULATED if mode is EvalMode.HYBRID else Arithmetic.PLAIN
    reference = task.embed(arithmetic)
    distances = reference.distances(task.first, task.second)
    done = Rows(_session_folder(task), len(task.pairs), {"match": RowField("bool"), "error": RowField("float64")})
    missing = done.missing(np.arange(len(task.pairs)))
    chips = task.aligned.chips[0]
    todo = [
        SessionPair(
            (np.array(chips[task.first[i]]), np.array(chips[task.second[i]])),
            reference.values[task.first[i]],
            float(distances[i] ** 2),
        )
        for i in missing
    ]
    bars = Progress(console=Console(stderr=True), disable=not task.options.shown, transient=True)
    with done.writing() as put, bars:
        bar = bars.add_task(f"{mode} pairs", total=len(task.pairs), completed=len(task.pairs) - len(missing))

        def on_result(place: int, row: Mapping[str, Any]) -> None:
            put(int(missing[place]), row)
            bars.advance(bar)

        run_pairs(todo, model, Mode(mode.value), opener, on_result)
    errors = np.array(done["error"])
    decisions = [
        Decision(
            int(task.fold_of[i]),
            *task.pairs[i],
            float(distances[i]),
            bool(done["match"][i]),
            reference_decision=bool(distances[i] < model.threshold),
            error=float(errors[i]) if np.isfinite(errors[i]) else None,
        )
        for i in range(len(task.pairs))
    ]
    about = {**task.about(), "reference": arithmetic.value}
    done.forget()  # forget a complete run: its results are those of the code at the time, so the next run starts anew
    return Evaluation({**about, **session_document(decisions, mode is EvalMode.PURE_HE)}, decisions)


def _session_folder(task: _Task) -> Path:
    key = hashlib.sha256(json.dumps([task.network.digest(), task.pairs]).encode()).hexdigest()[:16]
    return task.aligned.folder / f"{task.network.model.name}-{key}-{task.options.mode}"
