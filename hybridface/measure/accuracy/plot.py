"""Draw the ROC curve and the distances of a measurement."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybridface.measure.accuracy.documents import FARS
from hybridface.measure.accuracy.evaluation import Evaluation
from hybridface.measure.accuracy.statistics import Roc

__all__ = ["draw"]

_BLUE, _ORANGE, _GREY, _INK = "#2563a8", "#d9772b", "#9aa3ad", "#2b2f36"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_NAMES = {"plain": "float64", "emulated": "fixed point, bit by bit"}


def draw(path: Path, evaluation: Evaluation) -> None:
    """Write a PNG: the ROC curve with a logarithmic FAR on the left, a histogram of the distances on the right."""
    document = evaluation.document
    of = f"{100 * document['accuracy']:.2f} % of {document['pairs']:,} pairs decided correctly"
    title = f"{document['model']}, {document['mode']}: {of}"
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
        _draw_roc(left, evaluation)
        _draw_distances(right, evaluation)
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.savefig(path, metadata={"Software": None})


def _draw_roc(axes: Any, evaluation: Evaluation) -> None:
    curves, document = list(evaluation.roc.items()), evaluation.document
    pairs = int(np.sum(~evaluation.same))
    least = 0.5 / pairs
    lowest = 1.0
    for (name, roc), colour, line in zip(curves, (_BLUE, _ORANGE), ("-", (0, (2, 3))), strict=False):
        axes.step(*_steps(roc, least), where="post", color=colour, linestyle=line, linewidth=2, label=_NAMES[name])
        lowest = min(lowest, float(_steps(roc, least)[1][0]))
    _, roc = curves[0]
    for far in FARS:
        if far >= 1 / pairs:
            tar = roc.tar_at(far)
            axes.plot([far], [tar], "o", color=_BLUE, markersize=7, zorder=5)
            text = f"{100 * tar:.1f} % at FAR {100 * far:g} %"
            axes.annotate(text, (far, tar), (10, -12), textcoords="offset points", va="top", fontsize=9)
    own = document["false_accepts"] / pairs, 1 - document["false_rejects"] / int(np.sum(evaluation.same))
    axes.plot([max(own[0], least)], [own[1]], "D", color=_INK, markersize=7, zorder=6, label="the model's threshold")
    axes.set_xscale("log")
    axes.set_xlim(least, 1)
    axes.set_ylim(max(0.0, np.floor(20 * (lowest - 0.02)) / 20), 1.005)
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_xlabel("different people accepted (FAR)")
    axes.set_ylabel("same person accepted (TAR)")
    axes.set_title(f"ROC: equal error rate {100 * roc.eer:.2f} %, area {roc.auc:.4f}")
    axes.legend(loc="lower right")


def _draw_distances(axes: Any, evaluation: Evaluation) -> None:
    distances, same = evaluation.distances, evaluation.same
    edges = np.linspace(0, float(distances.max()) * 1.02, 61)
    for chosen, colour, label in ((same, _BLUE, "same person"), (~same, _ORANGE, "different people")):
        axes.hist(distances[chosen], edges, color=colour, alpha=0.75, label=label, edgecolor="white", linewidth=0.4)
    threshold, folds = evaluation.document["threshold"], evaluation.document["fold_thresholds"]
    axes.axvline(threshold, ymax=0.78, color=_INK, linewidth=1.5, label=f"the model's threshold, {threshold:.3f}")
    axes.axvspan(
        min(folds), max(folds), color=_GREY, alpha=0.45, linewidth=1, label="thresholds from other folds", zorder=0
    )
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel("Euclidean distance of the embeddings")
    axes.set_ylabel("pairs")
    axes.set_title("Distances")
    axes.legend(loc="upper left", ncols=2, fontsize=9)


def _steps(roc: Roc, least: float) -> tuple[Any, Any]:
    """Return the curve from its last point at FAR 0. A logarithmic axis shows this point at its left end."""
    first = int(np.flatnonzero(roc.far == 0)[-1])
    return np.maximum(roc.far[first:], least), roc.tar[first:]


def _percent(value: float, _: Any) -> str:
    return f"{100 * value:g} %"
