"""Squared norms of a fixed mask's rows by transfers.

Both parties hold the mask B = B_0 + B_1 as seeds, each its own, and tell nobody. |B_j|^2 needs the products of the
parties' shares of a row's numbers (`word_products`, where it is said what is seen).
"""

import numpy as np

from protocols.correlations.fixed_mask import FixedMask, FixedNorms
from protocols.correlations.ot.arithmetic import numbers_times_numbers
from protocols.correlations.ot.ends import End
from protocols.ranks import CLIENT
from protocols.ring import RingArray

__all__ = ["fixed_norms"]


def fixed_norms(end: End, label: str, request: FixedNorms, mask: FixedMask) -> list[RingArray]:
    """|B_0|^2 + |B_1|^2 + 2 B_0 B_1, by rows."""
    rows = mask.rows(request.first, request.rows)
    cross = numbers_times_numbers(end, label, rows.reshape(-1), end.rank == CLIENT).reshape(rows.shape)
    return [(rows * rows + np.uint64(2) * cross).sum(axis=1, dtype=np.uint64)]
