"""What both sides of a gallery's session do alike: compare a probe with some templates, and find the nearest of many.

A list's distances are sums that were rounded, so that one near zero may be negative, and would not count as near. They
are moved up by 2^-16, and so is the squared threshold.

Both call these with their own shares, and see what `matching` and `protocols.identification` say.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parties.gallery.index_file import IndexFile
from parties.gallery.layout import Layout
from parties.gallery.records import Entry
from parties.pool import Kind as Run
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
from protocols.identification.server_list import (
    LIST_FRACTION_BITS,
    ServerListClient,
    ServerListServer,
    list_requests,
)
from protocols.matching import Reveal, reveal_matches, squared_distance
from protocols.mpc import CLIENT, MpcParty
from protocols.ring import FRACTION_BITS, RingArray, encode

__all__ = [
    "CHUNK_ROWS",
    "PROBE",
    "TOP_MAX",
    "decide",
    "decide_requests",
    "extend_index",
    "find_requests",
    "list_distances",
    "list_find_requests",
    "nearest",
    "nearest_in_list",
    "new_rows",
    "private_distances",
    "selection_requests",
]

PROBE = Run(1, 0)
"""The run of the network on one photo."""

CHUNK_ROWS = 1 << 13
"""Templates that are indexed at a time."""

TOP_MAX = 64
"""Identities that one query may ask for."""

_LIST_OFFSET = 1 << (LIST_FRACTION_BITS - 16)


def decide_requests(photos: int, dimension: int) -> list[Request]:
    """Return the correlations that `decide` uses up."""
    return [SquarePair((photos, dimension)), *smallest_requests(photos), *interval_requests(1)]


def decide(party: MpcParty, probe: RingArray, templates: RingArray, threshold: float, reveal: Reveal) -> bool | None:
    """Open whether the nearest of an identity's templates (n, d) is near enough to a probe (1, d)."""
    found = squared_distance(party, np.broadcast_to(probe, templates.shape), templates)
    return reveal_matches(party, smallest(party, found), threshold, reveal)[0]


def extend_index(party: MpcParty, index: IndexFile, templates: RingArray, rows: Sequence[int]) -> None:
    """Index templates (n, d) of some rows of the store, and write them to this party's files."""
    places = index.next_places(len(rows))
    party.correlations.prepare(index_requests(places, templates.shape[1]))
    index.write(np.array(rows, dtype=np.int64), *index_templates(party, index.mask, templates, places))


def new_rows(entries: Sequence[Entry], index: IndexFile) -> list[list[int]]:
    """Forget what is not enrolled any more; return the rows that are not indexed yet, some at a time.

    The same on both sides.
    """
    listed = np.array([entry.row for entry in entries], dtype=np.int64)
    index.forget(np.setdiff1d(index.indexed, np.append(listed, 0)))
    rows = np.setdiff1d(listed, index.indexed).tolist()
    return [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]


def find_requests(layout: Layout, index: IndexFile) -> list[Request]:
    """Return the correlations that `private_distances` uses up."""
    products = distance_requests(0, len(index.indexed), index.dimension)
    return [*products, *group_requests(layout.sizes)]


def private_distances(party: MpcParty, index: IndexFile, layout: Layout, probe: RingArray) -> RingArray:
    """Return shares of the squared distance of a probe (d,) to each identity's nearest template, 32 fractional bits."""
    found = distances(party, index.read(), probe)[index.places_of(layout.rows)]
    return smallest_of_groups(party, found, layout.sizes)


def selection_requests(identities: int, top: int) -> list[Request]:
    """Return the correlations that `nearest` uses up."""
    return [*smallest_requests(identities, top), *outcome_requests(top)]


def nearest(
    party: MpcParty,
    found: RingArray,
    threshold: float,
    top: int,
    reveal: Reveal,
) -> tuple[int | None, ...]:
    """Open the indices of the `top` smallest squared distances (m,) that are under the threshold, nearest first."""
    return _nearest(party, found, int(encode(threshold**2, 2 * FRACTION_BITS)), top, reveal)


def list_find_requests(sizes: NDArray[np.int64], dimension: int) -> list[Request]:
    """Return the correlations that `list_distances` uses up."""
    return [*list_requests(dimension), *group_requests(sizes)]


def list_distances(
    party: MpcParty, side: ServerListClient | ServerListServer, sizes: NDArray[np.int64], probe: RingArray
) -> RingArray:
    """Return shares of the squared distance of a probe (d,) to each identity's nearest template: see above.

    Args:
        sizes: int64 (m,), templates of each identity, in the order of the list.
    """
    found = side.distances(party, probe)
    if party.rank == CLIENT:
        found += np.uint64(_LIST_OFFSET)
    return smallest_of_groups(party, found, sizes)


def nearest_in_list(
    party: MpcParty, found: RingArray, threshold: float, top: int, reveal: Reveal
) -> tuple[int | None, ...]:
    """Do as `nearest` with what `list_distances` returned."""
    return _nearest(party, found, int(encode(threshold**2, LIST_FRACTION_BITS)) + _LIST_OFFSET, top, reveal)


def _nearest(party: MpcParty, found: RingArray, bound: int, top: int, reveal: Reveal) -> tuple[int | None, ...]:
    bits = index_bits(found.size)
    keys = smallest(party, with_indices(found, bits, party.rank), top)
    return reveal_indices(party, keys, bound, bits, reveal)
