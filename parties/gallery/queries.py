"""What both sides of a gallery's session do alike: compare a probe with some templates, and find the nearest of many.

Both call these with their own shares, and see what `matching` and `protocols.identification` say.
"""

from collections.abc import Sequence

import numpy as np

from parties.gallery.index_file import IndexFile
from parties.gallery.layout import Layout
from protocols.comparison import interval_requests
from protocols.correlations import Request, SquarePair
from protocols.identification.outcome import index_bits, outcome_requests, reveal_indices
from protocols.identification.private_templates import distance_requests, distances, index_requests, index_templates
from protocols.identification.selection import (
    group_requests,
    smallest,
    smallest_of_groups,
    smallest_requests,
    with_indices,
)
from protocols.matching import Reveal, reveal_matches, squared_distance
from protocols.mpc import MpcParty
from protocols.ring import FRACTION_BITS, RingArray, encode

__all__ = [
    "CHUNK_ROWS",
    "TOP_MAX",
    "decide",
    "decide_requests",
    "extend_index",
    "find_requests",
    "nearest",
    "private_distances",
    "selection_requests",
]

CHUNK_ROWS = 1 << 13
"""Templates that are indexed at a time."""

TOP_MAX = 64
"""Identities that one query may ask for."""


def decide_requests(photos: int, dimension: int) -> list[Request]:
    """Return the correlations that `decide` uses up."""
    return [SquarePair((photos, dimension)), *smallest_requests(photos), *interval_requests(1)]


def decide(party: MpcParty, probe: RingArray, templates: RingArray, threshold: float, reveal: Reveal) -> bool | None:
    """Open whether the nearest of an identity's templates (n, d) is near enough to a probe (1, d)."""
    found = squared_distance(party, np.broadcast_to(probe, templates.shape), templates)
    return reveal_matches(party, smallest(party, found), threshold, reveal)[0]


def extend_index(party: MpcParty, index: IndexFile, templates: RingArray, rows: Sequence[int]) -> None:
    """Index templates (n, d) of some rows, ascending, and write them to this party's files."""
    places = np.array(rows, dtype=np.int64)
    party.correlations.prepare(index_requests(places, templates.shape[1]))
    index.write(places, *index_templates(party, index.mask, templates, places))


def find_requests(layout: Layout, index: IndexFile) -> list[Request]:
    """Return the correlations that `private_distances` uses up."""
    products = distance_requests(int(index.indexed[0]), index.span, index.mask.dimension)
    return [*products, *group_requests(layout.sizes.tolist())]


def private_distances(party: MpcParty, index: IndexFile, layout: Layout, probe: RingArray) -> RingArray:
    """Return shares of the squared distance of a probe (d,) to each identity's nearest template, 32 fractional bits."""
    found = distances(party, index.read(), probe)[layout.rows - index.indexed[0]]
    return smallest_of_groups(party, found, layout.sizes.tolist())


def selection_requests(identities: int, top: int) -> list[Request]:
    """Return the correlations that `nearest` uses up."""
    return [*smallest_requests(identities, top), *outcome_requests(top)]


def nearest(
    party: MpcParty,
    found: RingArray,
    threshold: float,
    top: int,
    reveal: Reveal,
    fraction_bits: int = 2 * FRACTION_BITS,
) -> tuple[int | None, ...]:
    """Open the indices of the `top` smallest squared distances (m,) that are under the threshold, nearest first."""
    bits = index_bits(found.size)
    keys = smallest(party, with_indices(found, bits, party.rank), top)
    return reveal_indices(party, keys, int(encode(threshold**2, fraction_bits)), bits, reveal)
