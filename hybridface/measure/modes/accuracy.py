"""Read the accuracy of the networks from results of `hybridface eval lfw`. Nothing is measured here."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridface.measure.accuracy import measured_accuracy
from hybridface.measure.modes.ways import ReportMode
from parties.machine.plain_files import read_plain
from protocols.channel import printable
from protocols.errors import ParameterError

__all__ = ["KnownAccuracy", "accuracy_of", "read_accuracy", "shipped_accuracy"]

_PLAIN, _EMULATED = "plain", "emulated"
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class KnownAccuracy:
    """One result of `hybridface eval lfw`.

    Args:
        mode: "plain", "emulated", "hybrid" or "pure-he".
        model: the network's name.
        pairs: the number of pairs that were decided.
        accuracy: the mean accuracy over folds, 0 to 1; None if too few pairs were decided.
        standard_error: the standard error of the accuracy.
        differing: the number of decisions that differ from the reference's; None without a reference.
        folds: the folds that were measured; empty if the result does not say.
    """

    mode: str
    model: str
    pairs: int
    accuracy: float | None
    standard_error: float | None = None
    differing: int | None = None
    folds: tuple[int, ...] = ()


def read_accuracy(paths: Sequence[Path]) -> list[KnownAccuracy]:
    """Return the results of some result.json files.

    Raises:
        ParameterError: a file cannot be read, or is not a result of `hybridface eval lfw`.
    """
    return [_read(path) for path in paths]


def shipped_accuracy() -> list[KnownAccuracy]:
    """Return the results that come with the project."""
    return [_parsed(document) for document in measured_accuracy()]


def accuracy_of(mode: str, model: str, known: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], bool] | None:
    """Return the accuracy of a mode's decisions, and whether it was measured with the mode's own arithmetic.

    Hybrid mode has the accuracy of the emulator, which computes the same integers. The other modes have the accuracy of
    the network in the clear.

    Of several results, the function takes one on the fewest folds, and of these the one with the most pairs. Somebody
    who chose folds (`--folds`) left out those on whose people the network was trained. The left-out folds would make
    the network look better than it is.

    Args:
        known: `KnownAccuracy` as dictionaries.
    """
    wanted = [_EMULATED, _PLAIN] if mode == ReportMode.HYBRID else [_PLAIN]
    for source in wanted:
        found = [row for row in known if (row["mode"], row["model"]) == (source, model) and row["accuracy"] is not None]
        if found:
            own = source == _EMULATED or mode == ReportMode.PLAIN
            return min(found, key=lambda row: (len(row["folds"]) or math.inf, -row["pairs"])), own
    return None


def _read(path: Path) -> KnownAccuracy:
    try:
        return _parsed(json.loads(read_plain(path, _MOST_BYTES)))
    except OSError as error:
        raise ParameterError(f"expected a result of `hybridface eval lfw`, got {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParameterError(
            f"expected a result of `hybridface eval lfw` in {path}, got {printable(error)!r}"
        ) from error


def _parsed(document: Any) -> KnownAccuracy:
    if not isinstance(document, dict):
        raise TypeError(f"a {type(document).__name__}")
    accuracy, error = (_fraction(document.get(key)) for key in ("accuracy", "accuracy_se"))
    differing = document.get("differing_decisions")
    names = printable(document["mode"]), printable(document["model"])
    decided, differing = int(document["pairs"]), None if differing is None else int(differing)
    return KnownAccuracy(
        *names, decided, accuracy, error, differing, tuple(int(fold) for fold in document.get("folds", ()))
    )


def _fraction(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise ValueError(f"an accuracy of {number}")
    return number
