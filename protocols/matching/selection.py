"""Select the smallest of shared keys by a tournament on shares. No key is opened.

Keys are integers in (-2^62, 2^62), shared in Z_2^64. A key carries its index in its low bits (`with_indices`). So value
and index move together, one comparison decides both, and equal values are ordered by index. One ReLU at full width puts
two keys x, y in order, exactly: min = y - max(y - x, 0), max = x + y - min.

**One winner.** n keys take n - 1 comparisons, in ceil(log2 n) levels of four rounds.

**The k smallest.** Sorted lists grow to k keys. Then they are merged two by two. The k smallest keys of two lists a, b
are the smaller ones of each a_i and b_(k-1-i). These form a bitonic sequence, which log2 k more steps sort (Batcher,
1968).

What each party sees: the openings of `comparison`, which are uniform.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT
from protocols.correlations import Request
from protocols.errors import ParameterError
from protocols.shares.comparison import relu, relu_requests
from protocols.shares.party import MpcParty

__all__ = ["group_requests", "smallest", "smallest_of_groups", "smallest_requests", "with_indices"]

Sizes = Sequence[int] | NDArray[np.int64]

_BITS = 64
_LARGEST = np.uint64(2**62 - 1)


def with_indices(values: RingArray, indices: NDArray[np.int64], index_bits: int, rank: int) -> RingArray:
    """Return shares of 2^index_bits x_j + i_j.

    Args:
        values: uint64 (n,), this party's shares of x_j, |x_j| < 2^(62 - index_bits).
        indices: int64 (n,), i_j, public, in [0, 2^index_bits).
    """
    if values.ndim != 1 or indices.shape != values.shape or np.any((indices < 0) | (indices >= 1 << index_bits)):
        raise ParameterError(f"expected values with indices below 2^{index_bits}, got {values.shape} {indices.shape}")
    keys: RingArray = values << np.uint64(index_bits)
    if rank == CLIENT:
        keys += indices.astype(np.uint64)
    return keys


def smallest(party: MpcParty, keys: RingArray, count: int = 1) -> RingArray:
    """Return this party's shares of the `count` smallest keys, in order, uint64 (count,).

    Args:
        keys: uint64 (n,), shares; n at least `count`.
    """
    if keys.ndim != 1 or not 0 < count <= keys.size:
        raise ParameterError(f"expected a count of 1 or more and at least {count} keys, got {keys.shape}")
    target = _power_of_two(count)
    lists = keys[:, None]
    while len(lists) > 1:
        lists = _merge_level(party, lists, target)
    return lists[0, :count]


def smallest_requests(size: int, count: int = 1) -> list[Request]:
    """Return the correlations that `smallest` uses up."""
    target, lists, length = _power_of_two(count), size, 1
    requests: list[Request] = []
    while lists > 1:
        pairs, grows = lists // 2, 2 * length <= target
        requests += relu_requests(pairs * length, _BITS)
        rows = 2 * pairs if grows else pairs
        for _ in _distances(length):
            requests += relu_requests(rows * length // 2, _BITS)
        lists, length = pairs + lists % 2, 2 * length if grows else length
    return requests


def smallest_of_groups(party: MpcParty, keys: RingArray, sizes: Sizes) -> RingArray:
    """Return shares of the smallest key of each group of neighbours.

    Args:
        keys: uint64 (n,), shares.
        sizes: the groups' sizes, public, each at least 1, n in all.
    """
    counts = np.array(sizes, dtype=np.int64)
    if not counts.size or counts.min() < 1 or counts.sum() != keys.size:
        raise ParameterError(f"expected groups of at least one key, {keys.size} in all, got {counts.sum()}")
    while counts.max() > 1:
        left = _left_of_pairs(counts)
        low, _ = _in_order(party, keys[left], keys[left + 1])
        keys = keys.copy()
        keys[left] = low
        keys = np.delete(keys, left + 1)
        counts -= counts // 2
    return keys


def group_requests(sizes: Sizes) -> list[Request]:
    """Return the correlations that `smallest_of_groups` uses up."""
    counts = np.array(sizes, dtype=np.int64)
    requests: list[Request] = []
    while counts.max() > 1:
        requests += relu_requests(int((counts // 2).sum()), _BITS)
        counts = counts - counts // 2
    return requests


def _left_of_pairs(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of the first key of each pair, for groups that lie one after the other."""
    starts = np.cumsum(counts) - counts
    pairs = counts // 2
    number = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    return np.asarray(np.repeat(starts, pairs) + 2 * number)


def _merge_level(party: MpcParty, lists: RingArray, target: int) -> RingArray:
    """Merge neighbouring sorted lists (m, L) to lists of 2 L keys, if `target` allows, else of the L smallest keys."""
    pairs, length = len(lists) // 2, lists.shape[1]
    grows = 2 * length <= target
    low, high = _in_order(party, lists[0 : 2 * pairs : 2], lists[1 : 2 * pairs : 2, ::-1])
    rows = _sorted_bitonic(party, np.concatenate([low, high]) if grows else low)
    merged = np.concatenate([rows[:pairs], rows[pairs:]], axis=1) if grows else rows
    if len(lists) % 2 == 0:
        return merged
    last = lists[-1:]
    if grows:
        filler = np.full((1, length), _LARGEST if party.rank == CLIENT else 0, dtype=np.uint64)
        last = np.concatenate([last, filler], axis=1)
    return np.concatenate([merged, last])


def _sorted_bitonic(party: MpcParty, rows: RingArray) -> RingArray:
    """Sort bitonic sequences (m, L), L a power of two."""
    length = rows.shape[1]
    for distance in _distances(length):
        halves = rows.reshape(len(rows), -1, 2, distance)
        low, high = _in_order(party, halves[:, :, 0], halves[:, :, 1])
        rows = np.stack([low, high], axis=2).reshape(len(rows), length)
    return rows


def _distances(length: int) -> Iterator[int]:
    while length > 1:
        length //= 2
        yield length


def _in_order(party: MpcParty, x: RingArray, y: RingArray) -> tuple[RingArray, RingArray]:
    """Return shares of the smaller and the larger key of each pair."""
    low = y - relu(party, y - x, _BITS)
    return low, x + y - low


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
