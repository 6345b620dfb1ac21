"""Integers of their residues, by Python's own arithmetic."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.residues import CrtModulus

__all__ = ["centred", "integers"]


def integers(modulus: CrtModulus, residues: Any) -> list[int]:
    """Compose residues (2, n) to integers in [0, Q), by Python's arithmetic."""
    inverse = pow(modulus.p0, -1, modulus.p1)
    return [
        r0 + modulus.p0 * ((r1 - r0) * inverse % modulus.p1)
        for r0, r1 in zip(*np.asarray(residues).tolist(), strict=True)
    ]


def centred(modulus: CrtModulus, residues: Any) -> NDArray[np.int64]:
    """Compose residues (2, n) to integers between -Q/2 and Q/2, which must be small enough for int64."""
    q = modulus.p0 * modulus.p1
    return np.array([v - q if v > q // 2 else v for v in integers(modulus, residues)], dtype=np.int64)
