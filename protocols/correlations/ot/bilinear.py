"""Triples of bilinear operations by transfers: c = a * b for products of numbers, of matrices, and convolutions.

a * b = (a_0 + a_1) * (b_0 + b_1): each party computes the product of its own shares; the two mixed ones are made number
by number (`arithmetic.numbers_times_numbers`), or, for a matrix product or a convolution, entry by entry of b: the bits
of an entry times the vector a * e, e the unit of that entry, which is all that depends on it. So a triple costs 64
transfers, and 64 vectors, for each entry of b and party: good for small ones, as identification's, and refused for
large ones.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.correlations.ot.arithmetic import numbers_times_numbers
from protocols.correlations.ot.ends import End
from protocols.correlations.ot.word_products import choose_words, offer_words
from protocols.correlations.types import ArithmeticTriple
from protocols.errors import ParameterError
from protocols.randomness import random_words
from protocols.ranks import CLIENT
from protocols.ring import RingArray

__all__ = ["arithmetic_triple"]

_MOST_WORDS = 1 << 24
"""Words that one party offers, over 64: 8 GB."""

_CHUNK_WORDS = 1 << 20
_BITS = np.arange(64, dtype=np.uint64)


def arithmetic_triple(end: End, label: str, request: ArithmeticTriple) -> list[RingArray]:
    """Return a party's shares of a, b and c.

    Raises:
        ParameterError: it is too large.
    """
    a, b = (random_words(math.prod(shape)).reshape(shape) for shape in (request.left, request.right))
    shape = request.derived[0].shape
    own = _apply(request, a, b)
    if request.operation == "mul":
        first, second = (part.reshape(-1) for part in np.broadcast_arrays(a, b))
        _check(first.size)
        is_client = end.rank == CLIENT  # the client chooses by its a, then by its b
        parts = first, second
        mixed = [numbers_times_numbers(end, label, parts[i if is_client else 1 - i], is_client) for i in (0, 1)]
        return [a, b, own + (mixed[0] + mixed[1]).reshape(shape)]
    columns = request.operation == "matmul" and a.ndim == b.ndim == 2
    _check(b.size * (a.shape[0] if columns else math.prod(shape)))
    total = own.copy()
    for chooser in (0, 1):
        total += _entries(end, f"{label}/{chooser}", request, a, b, end.rank == chooser, columns)
    return [a, b, total]


def _entries(
    end: End, label: str, request: ArithmeticTriple, a: RingArray, b: RingArray, chooses: bool, columns: bool
) -> RingArray:
    """Return shares of (the other's a) * (this party's b) if it chooses, else of (this a) * (the other's b).

    Args:
        columns: a matrix product, in which an entry of b matters to one column of the result alone.
    """
    shape = request.derived[0].shape
    width = shape[0] if columns else math.prod(shape)
    total = np.zeros((b.size, width) if columns else (1, width), dtype=np.uint64)
    step = max(1, _CHUNK_WORDS // (64 * width))
    for start in range(0, b.size, step):
        entries = np.arange(start, min(start + step, b.size))
        if chooses:
            bits = ((b.reshape(-1)[entries, None] >> _BITS) & np.uint64(1)).astype(np.uint8)
            _, shares = choose_words(end, label, bits.size, width, bits.reshape(-1))
        else:
            vectors = a.T[entries // b.shape[1]] if columns else _units(request, a, entries)
            words = (vectors[:, None, :] << _BITS[:, None]).reshape(-1, width)
            shares = offer_words(end, label, words, chosen=True)
        sums = shares.reshape(len(entries), 64, width).sum(axis=1, dtype=np.uint64)
        if columns:
            total[entries] = sums
        else:
            total[0] += sums.sum(axis=0, dtype=np.uint64)
    if columns:
        return np.asarray(total.reshape(*b.shape, width).sum(axis=0, dtype=np.uint64).T)
    return total.reshape(shape)


def _units(request: ArithmeticTriple, a: RingArray, entries: NDArray[np.int64]) -> RingArray:
    """Return a * e for the units e of some entries of b, (entries, outputs)."""
    rows = []
    for entry in entries.tolist():
        unit = np.zeros(math.prod(request.right), dtype=np.uint64)
        unit[entry] = 1
        rows.append(_apply(request, a, unit.reshape(request.right)).reshape(-1))
    return np.stack(rows)


def _apply(request: ArithmeticTriple, a: RingArray, b: RingArray) -> RingArray:
    pair = (torch.from_numpy(value.view(np.int64)) for value in (a, b))
    result = getattr(torch, request.operation)(*pair, **dict(request.options))
    return np.asarray(result.numpy().view(np.uint64))


def _check(words: int) -> None:
    if words > _MOST_WORDS:
        raise ParameterError(f"expected a triple of at most {_MOST_WORDS} products without a dealer, got {words}")
