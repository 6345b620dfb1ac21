"""Choose which pairs are measured, and which other pairs only help to choose thresholds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.faces.pairs import Folds, Pair

__all__ = ["Selection", "sample", "select"]


@dataclass(frozen=True)
class Selection:
    """Pairs of a file, by their places in it, in growing order.

    Args:
        folds: the whole file.
        evaluated: (n,) the pairs that are measured.
        others: (m,) pairs of the other folds, to choose thresholds. Empty if all folds are measured: then every fold
            gets its threshold from the other measured folds.
    """

    folds: Folds
    evaluated: NDArray[np.int64]
    others: NDArray[np.int64]

    @property
    def used(self) -> NDArray[np.int64]:
        """(n + m,) the places of both kinds, in growing order."""
        return np.union1d(self.evaluated, self.others)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The folds that are measured."""
        return tuple(int(fold) for fold in np.unique(self.folds.fold_of[self.evaluated]))

    def pairs(self, places: NDArray[np.int64]) -> list[Pair]:
        """Return the pairs at some places."""
        return [self.folds.pairs[place] for place in places.tolist()]


def select(folds: Folds, chosen: Sequence[int] = (), limit: int = 0, seed: int = 0) -> Selection:
    """Choose the pairs of a measurement.

    Args:
        chosen: the folds to measure; empty for all folds.
        limit: the maximal number of random pairs to measure, and also to choose thresholds on; 0 for no limit.
        seed: the seed of the draw.

    Raises:
        ImageError: there is no such fold.
    """
    known = folds.numbers
    if not set(chosen) <= set(known):
        raise ImageError(f"expected some of the folds {known[0]} to {known[-1]}, got {sorted(set(chosen))}")
    measured = set(chosen) or set(known)
    evaluated = sample(folds.rows(sorted(measured)), limit, seed)
    return Selection(folds, evaluated, sample(folds.rows(sorted(set(known) - measured)), limit, seed))


def sample(places: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Draw `limit` places without replacement, in growing order; all places for limit 0."""
    if not limit or limit >= len(places):
        return places
    drawn = random.Random(seed).sample(places.tolist(), limit)  # noqa: S311 (a sample, not a secret)
    return np.array(sorted(drawn), dtype=np.int64)
