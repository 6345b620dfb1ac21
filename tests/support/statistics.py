"""Statistical tests, which fail by chance once in ten million runs."""

from typing import Any

import numpy as np
from scipy import stats

__all__ = ["CHANCE", "assert_probability", "assert_uniform", "assert_uniform_bytes"]

CHANCE = 1e-7
"""The chance that a statistical test fails although the code is right."""


def assert_uniform(values: Any, bound: int, bins: int | None = None) -> None:
    """Chi-squared test that `values` are uniform on [0, bound), in equal `bins` (by default one per value)."""
    bins = bins or bound
    edges = [-(-bound * i // bins) for i in range(bins + 1)]
    counts = np.histogram(np.asarray(values).ravel().astype(np.float64), bins=np.array(edges, dtype=np.float64))[0]
    assert counts.sum() == np.size(values), f"values outside [0, {bound})"
    expected = np.diff(edges) / bound * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > CHANCE


def assert_uniform_bytes(words: Any) -> None:
    """Chi-squared test of every byte position of 64-bit words, all positions together."""
    assert_uniform(np.ascontiguousarray(words).view(np.uint8), 256)


def assert_probability(hits: int, trials: int, probability: float) -> None:
    """Exact binomial test that `hits` of `trials` came with that probability."""
    assert stats.binomtest(hits, trials, probability).pvalue > CHANCE
