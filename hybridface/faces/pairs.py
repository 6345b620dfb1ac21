"""LFW's pairs file: which photos to compare, in folds that share no person.

The header gives the number of folds and half the size of a fold. Then come the folds: in each, first the pairs that
show one person, then those that show two. Folds count from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ImageError
from parties.machine.plain_files import read_plain
from protocols.errors import ParameterError

__all__ = ["Folds", "Pair", "folds_from_text", "photos_of", "read_folds", "read_pairs"]

_MOST_BYTES = 1 << 28

Pair = tuple[str, str, bool]
"""Two photos, as NAME/NAME_0001.jpg, and whether they show the same person."""


@dataclass(frozen=True)
class Folds:
    """All pairs of a file.

    Args:
        pairs: n pairs, in the file's order.
        fold_of: (n,) the fold of each pair, counted from 1.
    """

    pairs: tuple[Pair, ...]
    fold_of: NDArray[np.int64]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The folds' numbers."""
        return tuple(int(fold) for fold in np.unique(self.fold_of))

    def rows(self, folds: Sequence[int]) -> NDArray[np.int64]:
        """Return the positions of these folds' pairs."""
        return np.flatnonzero(np.isin(self.fold_of, list(folds)))


def read_pairs(path: Path) -> list[Pair]:
    """Read LFW's pairs format: a header, then `NAME i j` or `NAME i NAME j`, separated by tabs.

    Raises:
        ImageError: the file is missing or has another format.
    """
    try:
        lines = [line.split("\t") for line in _text(path).splitlines()[1:] if line.strip()]
        pairs = [
            (_photo(line[0], line[1]), _photo(line[0] if len(line) == 3 else line[2], line[-1]), len(line) == 3)
            for line in lines
            if _checked(line)
        ]
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: expected pairs in LFW's format, got {error}") from error
    if not pairs:
        raise ImageError(f"{path}: expected pairs in LFW's format, got none")
    return pairs


def read_folds(path: Path) -> Folds:
    """Read LFW's pairs file with its folds.

    Raises:
        ImageError: the file has another format, or a header that does not fit the number of pairs.
    """
    pairs = read_pairs(path)
    try:
        folds, half = (int(word) for word in _text(path).split("\n", 1)[0].split())
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: expected a header with folds and pairs, got {error}") from error
    if len(pairs) != 2 * folds * half:
        raise ImageError(f"{path}: expected {folds} folds of {2 * half} pairs, got {len(pairs)} pairs")
    return Folds(tuple(pairs), 1 + np.arange(len(pairs)) // (2 * half))


def folds_from_text(text: str) -> tuple[int, ...]:
    """Read folds as the command line gives them, like 7,8.

    Raises:
        ParameterError: the text is no list of numbers.
    """
    try:
        return tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError as error:
        raise ParameterError(f"expected folds like 7,8, got {text!r}") from error


def photos_of(pairs: Sequence[Pair]) -> list[str]:
    """Return the photos that occur in pairs, each once, sorted."""
    return sorted({photo for pair in pairs for photo in pair[:2]})


def _text(path: Path) -> str:
    return read_plain(path, _MOST_BYTES).decode()


def _checked(line: list[str]) -> bool:
    """Raise ValueError for a line that is no pair; a name becomes part of a path, so it must not lead out."""
    if len(line) not in (3, 4):
        raise ValueError(f"{len(line)} fields in a line")
    for name in line[:1] if len(line) == 3 else (line[0], line[2]):
        if not name.strip() or "/" in name or name.startswith("."):
            raise ValueError(f"the name {name!r}")
    return True


def _photo(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"
