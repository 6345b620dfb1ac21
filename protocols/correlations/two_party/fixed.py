"""Correlations about a fixed mask between two parties: squared norms of its rows, and its products with fresh vectors.

Both parties hold the mask B = B_0 + B_1 as seeds, each its own, and tell nobody. |B_j|^2 needs the products of the
parties' shares of a row's numbers (`word_products`, where it is said what is seen): 264 bytes for each of B's numbers,
some rows at a time. B a is made by homomorphic encryption, not by transfers (`fixed_products`).
"""

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations.fixed_mask import FixedMask, FixedNorms, FixedProduct, FixedRequest
from protocols.correlations.two_party.ends import End
from protocols.correlations.two_party.fixed_products import FixedProducts
from protocols.correlations.two_party.turns import Steps, Turn
from protocols.correlations.two_party.word_products import number_products
from protocols.errors import ParameterError

__all__ = ["check_mask", "fixed_norms", "fixed_product"]


def check_mask(request: FixedRequest, mask: FixedMask | None) -> FixedMask:
    """Return the mask that a request is about.

    Raises:
        ParameterError: this party was not told one of that dimension.
    """
    if mask is None or mask.dimension != request.dimension:
        raise ParameterError(f"expected a fixed mask of dimension {request.dimension} before {request}")
    return mask


def fixed_norms(end: End, label: str, request: FixedNorms, mask: FixedMask) -> Steps[list[RingArray]]:
    """|B_0|^2 + |B_1|^2 + 2 B_0 B_1, by rows."""
    norms = np.empty(request.rows, dtype=np.uint64)
    for part, rows in mask.runs(request.first, request.rows):
        _, cross = yield from number_products(end, f"{label}/{part.start}", rows.reshape(-1), told=True)
        norms[part] = (rows * rows + np.uint64(2) * cross.reshape(rows.shape)).sum(axis=1, dtype=np.uint64)
    return [norms]


def fixed_product(
    products: FixedProducts, label: str, request: FixedProduct, mask: FixedMask
) -> Steps[list[RingArray]]:
    """A uniform a, and B a; messages go both ways at once, in whatever turn."""
    yield Turn.SERVER
    return products.make(label, request, mask)
