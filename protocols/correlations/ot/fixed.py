"""Correlations about a fixed mask by transfers: squared norms of its rows, and its products with fresh vectors.

Both parties hold the mask B = B_0 + B_1 as seeds, each its own, and tell nobody. |B_j|^2 needs the products of the
parties' shares of a row's numbers. B a = B_0 a_0 + B_1 a_1 + B_0 a_1 + B_1 a_0: for the mixed products a party's bits
of its share of a are its choices, 64 d of them, and the other offers whole columns of its share of B. Cost grows with
rows times 64 d words both ways: good for thousands of templates; for more there is the dealer.
"""

import numpy as np

from protocols.correlations.fixed_mask import FixedMask, FixedNorms, FixedProduct
from protocols.correlations.ot.arithmetic import numbers_times_numbers
from protocols.correlations.ot.ends import End
from protocols.correlations.ot.word_products import choose_words, offer_words
from protocols.errors import ParameterError
from protocols.kernels import multiply_rows
from protocols.randomness import random_words
from protocols.ranks import CLIENT
from protocols.ring import RingArray

__all__ = ["MOST_ROWS", "fixed_norms", "fixed_product"]

MOST_ROWS = 1 << 14
"""Of a product: a query then takes a gigabyte each way."""

_BITS = np.arange(64, dtype=np.uint64)
_CHUNK_WORDS = 1 << 21


def fixed_norms(end: End, label: str, request: FixedNorms, mask: FixedMask) -> list[RingArray]:
    """|B_0|^2 + |B_1|^2 + 2 B_0 B_1, by rows."""
    rows = mask.rows(request.first, request.rows)
    cross = numbers_times_numbers(end, label, rows.reshape(-1), end.rank == CLIENT).reshape(rows.shape)
    return [(rows * rows + np.uint64(2) * cross).sum(axis=1, dtype=np.uint64)]


def fixed_product(end: End, label: str, request: FixedProduct, mask: FixedMask) -> list[RingArray]:
    """A uniform a, and B a.

    Raises:
        ParameterError: the mask has more rows than MOST_ROWS.
    """
    if request.rows > MOST_ROWS:
        raise ParameterError(f"expected at most {MOST_ROWS} templates without a dealer, got {request.rows}")
    a, rows = random_words(request.dimension), mask.rows(request.first, request.rows)
    product = np.zeros(request.rows, dtype=np.uint64)
    multiply_rows(rows, a, product)
    step = max(1, _CHUNK_WORDS // (64 * request.rows))
    for chooser in (0, 1):
        for start in range(0, request.dimension, step):
            part = slice(start, min(start + step, request.dimension))
            name = f"{label}/{chooser}"
            if end.rank == chooser:
                bits = ((a[part, None] >> _BITS) & np.uint64(1)).astype(np.uint8).reshape(-1)
                _, shares = choose_words(end, name, bits.size, request.rows, bits)
            else:
                words = rows.T[part][:, None, :] << _BITS[:, None]
                shares = offer_words(end, name, words.reshape(-1, request.rows), chosen=True)
            product += shares.sum(axis=0, dtype=np.uint64)
    return [a, product]
