"""Make triples c = a * b of bilinear operations by transfers: products of numbers or matrices, and convolutions.

a * b = (a_0 + a_1) * (b_0 + b_1). Each party computes the product of its own shares alone. That leaves the two mixed
products, which `word_products` makes:

- A product of numbers is made number by number.
- A matrix product or a convolution is made entry by entry of b: the entry times the vector a * e, where e is the unit
  vector of that entry. The vector has those numbers of the result that depend on the entry. This also draws b.

In the second case, each entry of b costs each party 64 transfers, and 260 bytes for each number of the vector. This is
good for small triples, such as those of an identification. Large ones are refused.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import CLIENT
from protocols.correlations.two_party.ends import End
from protocols.correlations.two_party.turns import Steps
from protocols.correlations.two_party.word_products import number_products, vector_products
from protocols.correlations.types import ArithmeticTriple
from protocols.errors import ParameterError

__all__ = ["arithmetic_triple", "check_triple"]

_MOST_PRODUCTS = 1 << 24
"""The most products of numbers in a triple. A party sends 4 GB for them."""


def check_triple(request: ArithmeticTriple) -> None:
    """Refuse a triple that is too large.

    Raises:
        ParameterError: the triple has more than 2^24 products of numbers.
    """
    outputs = math.prod(request.derived[0].shape)
    products = outputs if request.operation == "mul" else math.prod(request.right) * _width(request)
    if products > _MOST_PRODUCTS:
        raise ParameterError(f"expected a triple of at most {_MOST_PRODUCTS} products without a dealer, got {products}")


def arithmetic_triple(end: End, label: str, request: ArithmeticTriple) -> Steps[list[RingArray]]:
    """Make a party's shares of a, b and c."""
    maker = _numbers if request.operation == "mul" else _vectors
    return (yield from maker(end, label, request, random_words(math.prod(request.left)).reshape(request.left)))


def _numbers(end: End, label: str, request: ArithmeticTriple, a: RingArray) -> Steps[list[RingArray]]:
    """Make a product of numbers. The client chooses by its a for the server's b, then by its b for the server's a."""
    b = random_words(math.prod(request.right)).reshape(request.right)
    parts = [part.reshape(-1) for part in np.broadcast_arrays(a, b)]
    factors = np.concatenate(parts if end.rank == CLIENT else parts[::-1])
    _, mixed = yield from number_products(end, label, factors, told=True)
    return [a, b, _apply(request, a, b) + mixed.reshape(2, *request.derived[0].shape).sum(axis=0, dtype=np.uint64)]


def _vectors(end: End, label: str, request: ArithmeticTriple, a: RingArray) -> Steps[list[RingArray]]:
    """Make a matrix product or a convolution. b comes with the products."""
    count, shape = math.prod(request.right), request.derived[0].shape

    def vectors(entries: NDArray[np.int64]) -> RingArray:
        return a.T[entries // request.right[1]] if _is_matrices(request) else _units(request, a, entries)

    numbers, shares = yield from vector_products(end, label, count, _width(request), vectors)
    b = numbers.reshape(request.right)
    if _is_matrices(request):
        mixed = shares.reshape(*request.right, _width(request)).sum(axis=0, dtype=np.uint64).T
    else:
        mixed = shares.sum(axis=0, dtype=np.uint64).reshape(shape)
    return [a, b, _apply(request, a, b) + mixed]


def _is_matrices(request: ArithmeticTriple) -> bool:
    """Return whether an entry of b affects only its own column of the result."""
    return request.operation == "matmul" and len(request.left) == len(request.right) == 2


def _width(request: ArithmeticTriple) -> int:
    """Return how many numbers of the result an entry of b affects."""
    return request.left[0] if _is_matrices(request) else math.prod(request.derived[0].shape)


def _units(request: ArithmeticTriple, a: RingArray, entries: NDArray[np.int64]) -> RingArray:
    """Return a * e for the unit vectors e of some entries of b, (entries, outputs)."""
    rows = np.empty((len(entries), _width(request)), dtype=np.uint64)
    for row, entry in zip(rows, entries.tolist(), strict=True):
        unit = np.zeros(math.prod(request.right), dtype=np.uint64)
        unit[entry] = 1
        row[:] = _apply(request, a, unit.reshape(request.right)).reshape(-1)
    return rows


def _apply(request: ArithmeticTriple, a: RingArray, b: RingArray) -> RingArray:
    pair = (torch.from_numpy(value.view(np.int64)) for value in (a, b))
    result = getattr(torch, request.operation)(*pair, **dict(request.options))
    return np.asarray(result.numpy().view(np.uint64))
