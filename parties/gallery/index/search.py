"""Compare a probe with an identity's templates, and find the nearest identities; alike on both sides of a session.

Both parties call these functions with their own shares. What each of them sees: see `protocols.matching`.

A list's distances are rounded sums. So a distance near zero may be negative, and would not count as near. Therefore
both the distances and the squared threshold are raised by 2^-16.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parties.gallery.index.file import IndexFile
from parties.prepared.shape import RunShape
from protocols.arithmetic.fixed_point import FRACTION_BITS, RingArray, encode
from protocols.channel import CLIENT
from protocols.correlations import Request, SquarePair
from protocols.correlations.source import CorrelationSource
from protocols.matching.distance import reveal_matches, squared_distance
from protocols.matching.names import lookup_requests
from protocols.matching.outcome import index_bits, outcome_requests, reveal_indices
from protocols.matching.private_templates import distance_requests, distances, index_requests, index_templates
from protocols.matching.reveal import Reveal
from protocols.matching.selection import (
    group_requests,
    smallest,
    smallest_of_groups,
    smallest_requests,
    with_indices,
)
from protocols.matching.server_list import (
    LIST_FRACTION_BITS,
    ServerListClient,
    ServerListServer,
    list_requests,
)
from protocols.shares.comparison import interval_requests
from protocols.shares.party import MpcParty

__all__ = [
    "CHUNK_ROWS",
    "PROBE",
    "TOP_MAX",
    "decide",
    "decide_requests",
    "discard_queries",
    "extend_index",
    "find_requests",
    "list_distances",
    "list_find_requests",
    "list_query_requests",
    "nearest_in_list",
    "private_distances",
    "selection_requests",
    "winners",
    "winners_requests",
]

PROBE = RunShape(1, 0)
"""The shape of a run of the network on one photo."""

CHUNK_ROWS = 1 << 13
"""Number of templates that are indexed at a time."""

TOP_MAX = 64
"""Largest number of identities that one query may ask for."""

_LIST_OFFSET = 1 << (LIST_FRACTION_BITS - 16)


def decide_requests(photos: int, dimension: int) -> list[Request]:
    """Return the correlations that `decide` uses up."""
    return [SquarePair((photos, dimension)), *smallest_requests(photos), *interval_requests(1)]


def decide(party: MpcParty, probe: RingArray, templates: RingArray, threshold: float, reveal: Reveal) -> bool | None:
    """Open whether the nearest of an identity's templates (n, d) is within the threshold of a probe (1, d)."""
    found = squared_distance(party, np.broadcast_to(probe, templates.shape), templates)
    return reveal_matches(party, smallest(party, found), threshold, reveal)[0]


def extend_index(party: MpcParty, index: IndexFile, templates: RingArray, rows: Sequence[int]) -> None:
    """Index the templates (n, d) of n rows of the store, and write them to this party's files."""
    places = index.take_places(len(rows))  # on disk before anything is opened under them
    party.correlations.prepare(index_requests(places, templates.shape[1]))
    opened, norms = index_templates(party, index.mask, templates, places)
    index.write(places, np.array(rows, dtype=np.int64), opened, norms)


def find_requests(sizes: NDArray[np.int64], index: IndexFile) -> list[Request]:
    """Return the correlations that `private_distances` uses up."""
    products = distance_requests(0, len(index.indexed), index.dimension)
    return [*products, *group_requests(sizes)]


def private_distances(
    party: MpcParty, index: IndexFile, rows: NDArray[np.int64], sizes: NDArray[np.int64], probe: RingArray
) -> RingArray:
    """Return shares of the squared distance of a probe (d,) to each identity's nearest template, 32 fractional bits.

    Args:
        rows: int64 (n,), rows of the first identity, then of the second, ....
        sizes: int64 (m,), number of templates of each identity.
    """
    found = distances(party, index.read(), probe)[index.places_of(rows)]
    return smallest_of_groups(party, found, sizes)


def selection_requests(identities: int, top: int) -> list[Request]:
    """Return the correlations that `nearest_in_list` uses up."""
    return [*smallest_requests(identities, top), *outcome_requests(top)]


def winners_requests(sizes: Sequence[int], top: int) -> list[Request]:
    """Return the correlations that `winners` uses up, given the number of keys of each shard."""
    return [*(smallest_requests(sum(sizes), top) if len(sizes) > 1 else []), *outcome_requests(top)]


def winners(
    party: MpcParty, keys: Sequence[RingArray], threshold: float, top: int, bits: int, reveal: Reveal
) -> tuple[int | None, ...]:
    """Open the numbers of the `top` nearest identities that are under the threshold, nearest first.

    Args:
        keys: for every shard in order, shares of the keys of its nearest identities (k,); at least `top` in all.
        bits: length of an identity's number in a key.
    """
    best = keys[0] if len(keys) == 1 else smallest(party, np.concatenate(keys), top)
    return reveal_indices(party, best, int(encode(threshold**2, 2 * FRACTION_BITS)), bits, reveal)


def list_find_requests(sizes: NDArray[np.int64], dimension: int) -> list[Request]:
    """Return the correlations that `list_distances` uses up."""
    return [*list_requests(dimension), *group_requests(sizes)]


def list_query_requests(sizes: NDArray[np.int64], dimension: int, top: int, reveal: Reveal) -> list[Request]:
    """Return the correlations that one identification in a list uses up."""
    requests = [*list_find_requests(sizes, dimension), *selection_requests(len(sizes), top)]
    return requests if reveal is Reveal.SERVER else [*requests, *lookup_requests(len(sizes), top)]


def discard_queries(
    source: CorrelationSource, queries: Counter[int], sizes: NDArray[np.int64], dimension: int, reveal: Reveal
) -> None:
    """Forget the prepared identifications after the list has changed. Both sides do this.

    Args:
        queries: number of prepared identifications for each number of identities; emptied.
        sizes: of the list that they were prepared for.
    """
    for top in sorted(queries.elements()):
        for request in list_query_requests(sizes, dimension, top, reveal):
            source.take(request)
    queries.clear()


def list_distances(
    party: MpcParty, side: ServerListClient | ServerListServer, sizes: NDArray[np.int64], probe: RingArray
) -> RingArray:
    """Return shares of the squared distance of a probe (d,) to each identity's nearest template, plus 2^-16.

    Args:
        sizes: int64 (m,), number of templates of each identity, in the order of the list.
    """
    found = side.distances(party, probe)
    if party.rank == CLIENT:
        found += np.uint64(_LIST_OFFSET)
    return smallest_of_groups(party, found, sizes)


def nearest_in_list(
    party: MpcParty, found: RingArray, threshold: float, top: int, reveal: Reveal
) -> tuple[int | None, ...]:
    """Open the indices of the `top` smallest results of `list_distances` that are under the threshold."""
    bits, bound = index_bits(found.size), int(encode(threshold**2, LIST_FRACTION_BITS)) + _LIST_OFFSET
    keys = smallest(party, with_indices(found, np.arange(found.size), bits, party.rank), top)
    return reveal_indices(party, keys, bound, bits, reveal)
