"""Compute the distances of one shared probe to many shared templates, by matrix products with a fixed mask.

Templates T (n, d) are shared: T = T_0 + T_1 modulo 2^64. Both parties hold shares of a fixed uniform mask B
(`correlations.fixed_mask`).

**Index**, once for a template. The parties open D = T - B: each sends T_i - B_i, and both add up. Row j of B hides
template j and nothing else, ever, so D is uniform. A template's squared norm |t|^2 = |D|^2 + 2 D B + |B|^2 is linear in
shares of B and |B|^2. A correlation (`FixedNorms`) gives shares of |B|^2, so the parties open nothing for the norm.

**Query** with a probe q. A correlation (`FixedProduct`) gives shares of a fresh uniform a and of c = B a. The parties
open e = q - a: d numbers, which are uniform since a is used once. With D and e public,

    T q = (D + B)(e + a) = D (e + a) + B e + c

is linear in shares of a, B and c. So everything else is local, whatever n is. The distances |q|^2 + |t_j|^2 - 2 t_j q
are exact modulo 2^64 at 32 fractional bits.

**Why a fixed B leaks nothing.** A party sees D once, and D is uniform. For every query it sees e, which is uniform and
independent of everything before it, since a is fresh. B itself is never opened: c is shared, and its shares are fresh.

Source: Beaver's multiplication (CRYPTO 1991), with one factor's mask kept. SecureML does this for training data that
every step multiplies (Mohassel, Zhang, IEEE S&P 2017).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.kernels import multiply_rows
from protocols.channel import CLIENT
from protocols.correlations import FixedMask, FixedNorms, FixedProduct, Request, SquarePair
from protocols.errors import ParameterError
from protocols.shares.party import MpcParty, arithmetic, to_ring

__all__ = ["TemplateIndex", "distance_requests", "distances", "index_requests", "index_templates"]


@dataclass(frozen=True, eq=False)
class TemplateIndex:
    """A party's index of templates.

    Args:
        mask: this party's share of B.
        first: the row of B that hides row 0 of `opened`.
        opened: D in the order of B's rows, uint64 (n, d), the same on both sides. It may be mapped from a file. Where a
            row of B hides no template, both sides must have the same numbers, such as zeros; the distances to these
            rows mean nothing.
        norms: this party's shares of the squared norms, uint64 (n,), 32 fractional bits.
    """

    mask: FixedMask
    first: int
    opened: RingArray
    norms: RingArray


def index_requests(rows: NDArray[np.int64], dimension: int) -> list[Request]:
    """Return the correlations that `index_templates` uses up for these rows."""
    return [_norms_request(rows, dimension)]


def index_templates(
    party: MpcParty, mask: FixedMask, templates: RingArray, rows: NDArray[np.int64]
) -> tuple[RingArray, RingArray]:
    """Index templates; return D (n, d) and this party's shares of their squared norms (n,).

    Args:
        mask: this party's share of B.
        templates: uint64 (n, d), shares at 16 fractional bits.
        rows: int64 (n,), ascending: the row of B that hides each template. No row may have hidden another template.
            The parties do not open rows between these, so those rows of B stay unknown to both.
    """
    expected = len(rows), mask.dimension
    if templates.shape != expected or not len(rows) or np.any(np.diff(rows) < 1):
        raise ParameterError(f"expected templates {expected} of ascending rows, got {templates.shape}")
    request = _norms_request(rows, mask.dimension)
    (mask_norms,) = party.correlations.take(request)
    places = rows - request.first
    own = mask.rows(request.first, request.rows)[places]
    opened = templates - own
    opened += party.channel.exchange("identification/index", opened)
    norms: RingArray = mask_norms[places] + np.uint64(2) * (opened * own).sum(axis=1, dtype=np.uint64)
    if party.rank == CLIENT:
        norms += (opened * opened).sum(axis=1, dtype=np.uint64)
    return opened, norms


def _norms_request(rows: NDArray[np.int64], dimension: int) -> FixedNorms:
    first = int(rows[0])
    return FixedNorms(first, int(rows[-1]) - first + 1, dimension)


def distance_requests(first: int, rows: int, dimension: int) -> list[Request]:
    """Return the correlations that one query of `rows` rows uses up."""
    return [FixedProduct(first, rows, dimension), SquarePair((dimension,))]


def distances(party: MpcParty, index: TemplateIndex, probe: RingArray) -> RingArray:
    """Return this party's shares of the squared distances of a probe to all rows, uint64 (n,), 32 fractional bits.

    Args:
        probe: uint64 (d,), share at 16 fractional bits.
    """
    rows, dimension = index.opened.shape
    if probe.shape != (dimension,):
        raise ParameterError(f"expected a probe of dimension {dimension}, got {probe.shape}")
    a, inner = party.correlations.take(FixedProduct(index.first, rows, dimension))
    e = probe - a
    e += party.channel.exchange("identification/probe", e)
    factor = a + e if party.rank == CLIENT else a
    inner = inner.copy()
    for place, own in index.mask.runs(index.first, rows):
        multiply_rows(np.ascontiguousarray(index.opened[place]), factor, inner[place])
        multiply_rows(own, e, inner[place])
    norm = to_ring(arithmetic(probe).square().share).sum(dtype=np.uint64)
    return index.norms + norm - np.uint64(2) * inner
