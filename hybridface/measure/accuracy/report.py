"""Show the results to people: the table on the terminal, and the files of a measurement."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from hybridface.measure.accuracy.documents import write_decisions
from hybridface.measure.accuracy.evaluation import Evaluation
from hybridface.measure.accuracy.plot import draw

__all__ = ["accuracy_table", "write_results"]

_SHOWN_DIFFERENCES = 10


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Write result.json and pairs.csv, and roc.png if there is a curve."""
    (folder / "result.json").write_text(json.dumps(evaluation.document, indent=2) + "\n", encoding="utf-8")
    write_decisions(folder / "pairs.csv", evaluation.decisions)
    if evaluation.roc:
        draw(folder / "roc.png", evaluation)


def accuracy_table(document: dict[str, Any]) -> Table:
    """Return the document of a measurement as a table."""
    folds = ", ".join(map(str, document["folds"]))
    title = f"{document['model']}, {document['mode']}: {document['pairs']:,} pairs of LFW, folds {folds}"
    table = Table(title=title, box=None, show_header=False, title_justify="left", padding=(0, 2, 0, 0))
    for key, label, cell in _ROWS:
        if document.get(key) is not None:
            table.add_row(label, cell(document))
    for pair in document.get("differing", [])[:_SHOWN_DIFFERENCES]:
        names = ", ".join(Path(pair[side]).stem for side in ("first", "second"))
        table.add_row("  decided differently", escape(f"{names}: {pair['distance']:.6f}"))
    return table


def _share(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda document: f"{100 * document[key]:.2f} %"


def _number(key: str, form: str) -> Callable[[dict[str, Any]], str]:
    return lambda document: format(document[key], form)


def _accuracy(document: dict[str, Any]) -> str:
    text = f"[bold]{100 * document['accuracy']:.2f} %[/bold]"
    if document.get("accuracy_se") is None:
        return text
    return (
        f"{text} (standard error {100 * document['accuracy_se']:.2f}, deviation {100 * document['accuracy_std']:.2f})"
    )


def _own_threshold(document: dict[str, Any]) -> str:
    wrong = f"{document['false_accepts']} false accepts, {document['false_rejects']} false rejects"
    return f"{100 * document['threshold_accuracy']:.2f} % at {document['threshold']:.4f} ({wrong})"


def _tars(document: dict[str, Any]) -> str:
    return ", ".join(f"{100 * tar:.2f} % at {100 * float(far):g} %" for far, tar in document["tar_at_far"].items())


def _photos(document: dict[str, Any]) -> str:
    return f"{document['photos']:,}; {document['undetected']} without a detected face count with their middle"


_ROWS: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("photos", "photos", _photos),
    ("accuracy", "accuracy, thresholds from other folds", _accuracy),
    ("plain_accuracy", "  the same in float64", _share("plain_accuracy")),
    ("threshold_accuracy", "accuracy at the model's threshold", _own_threshold),
    ("eer", "equal error rate", _share("eer")),
    ("tar_at_far", "true accept rate at false accept rate", _tars),
    ("auc", "area under the curve", _number("auc", ".5f")),
    ("reference", "compared with", _number("reference", "s")),
    ("differing_decisions", "decisions that differ, model's threshold", _number("differing_decisions", "d")),
    ("differing_fold_decisions", "decisions that differ, folds' thresholds", _number("differing_fold_decisions", "d")),
    ("nearest_to_threshold", "nearest pair to the model's threshold", _number("nearest_to_threshold", ".1e")),
    ("largest_distance_difference", "largest difference of a distance", _number("largest_distance_difference", ".1e")),
    (
        "largest_embedding_difference",
        "largest difference of an embedding's element",
        _number("largest_embedding_difference", ".1e"),
    ),
    ("largest_compared", "largest magnitude compared (exact below 32768)", _number("largest_compared", ".1f")),
    (
        "largest_relative_distance_error",
        "largest relative error of a squared distance",
        _number("largest_relative_distance_error", ".1e"),
    ),
    (
        "median_relative_distance_error",
        "median relative error of a squared distance",
        _number("median_relative_distance_error", ".1e"),
    ),
)
