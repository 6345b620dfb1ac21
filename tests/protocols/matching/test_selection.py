"""Identification on shares: the smallest keys and the outcome, against numpy; what is opened is uniform."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError, ProtocolError
from protocols.frame import Direction
from protocols.matching.outcome import index_bits, outcome_requests, reveal_indices
from protocols.matching.reveal import Reveal
from protocols.matching.selection import (
    group_requests,
    smallest,
    smallest_of_groups,
    smallest_requests,
    with_indices,
)
from support.frames import record
from support.shares import on_shares, pool_is_empty
from support.statistics import assert_uniform_bytes

fast = settings(max_examples=15, deadline=None)
KEYS = st.integers(-(2**61), 2**61)


def ring(values: Any) -> Any:
    return np.asarray(values, dtype=np.int64).view(np.uint64)


def selected(values: Any, count: int) -> list[int]:
    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(smallest_requests(share.size, count))
        result = smallest(party, share, count)
        assert pool_is_empty(party)
        return result

    first, second = on_shares(side, ring(values))
    return (first + second).view(np.int64).tolist()


@pytest.mark.slow
@given(st.data())
@fast
def test_the_smallest_keys_in_order(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    values = data.draw(st.lists(KEYS, min_size=size, max_size=size))
    count = data.draw(st.integers(1, size))
    assert selected(values, count) == sorted(values)[:count]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_many_keys_and_ties(count: int) -> None:
    values = np.random.default_rng(0).integers(-5, 5, 777) * 2**40
    assert selected(values, count) == np.sort(values)[:count].tolist()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(0, 2**32))
@fast
def test_the_smallest_of_groups(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(-(2**61), 2**61, sum(sizes))

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(group_requests(sizes))
        result = smallest_of_groups(party, share, sizes)
        assert pool_is_empty(party)
        return result

    first, second = on_shares(side, ring(values))
    expected = [part.min() for part in np.split(values, np.cumsum(sizes)[:-1])]
    assert (first + second).view(np.int64).tolist() == expected


def outcomes(distances: Any, bound: int, count: int, reveal: Reveal) -> tuple[Any, Any]:
    bits = index_bits(len(distances))

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare([*smallest_requests(share.size, count), *outcome_requests(count)])
        best = smallest(party, with_indices(share, np.arange(share.size), bits, party.rank), count)
        result = reveal_indices(party, best, bound, bits, reveal)
        assert pool_is_empty(party)
        return result

    return on_shares(side, ring(distances))


@pytest.mark.slow
@given(st.lists(st.integers(0, 2**36), min_size=1, max_size=20), st.integers(1, 2**36), st.sampled_from(Reveal))
@fast
def test_outcomes(distances: list[int], bound: int, reveal: Reveal) -> None:
    count = min(3, len(distances))
    order = np.argsort(distances, kind="stable")[:count]
    expected = tuple(int(i) if distances[i] < bound else None for i in order)
    nothing = (None,) * count
    client, server = outcomes(distances, bound, count, reveal)
    assert client == (nothing if reveal is Reveal.SERVER else expected)
    assert server == (nothing if reveal is Reveal.CLIENT else expected)


@pytest.mark.parametrize(("distance", "bound", "found"), [(6, 7, 0), (7, 7, None), (0, 1, 0), (2**36 - 1, 2**36, 0)])
def test_the_threshold_is_exact(distance: int, bound: int, found: int | None) -> None:
    assert outcomes([distance], bound, 1, Reveal.CLIENT)[0] == (found,)


def test_a_full_index_range() -> None:
    for size in (1, 3, 7, 8, 63, 64):
        distances = np.arange(size)[::-1] + 1
        assert outcomes(distances, 2, 1, Reveal.BOTH) == ((size - 1,), (size - 1,))


def test_everything_that_travels_is_uniform() -> None:
    frames: list[bytes] = []

    def side(party: Any, share: Any) -> Any:
        sent = record(party.channel)
        best = smallest(party, with_indices(share, np.arange(share.size), 13, party.rank))
        reveal_indices(party, best, 5 << 32, 13, Reveal.CLIENT)
        frames.extend(frame[64:] for frame in sent if len(frame) > 512)

    on_shares(side, ring(np.arange(8000) << 32))
    words = b"".join(frame[: len(frame) // 8 * 8] for frame in frames)
    assert len(words) > 100_000
    assert_uniform_bytes(np.frombuffer(words, dtype=np.uint64))


@pytest.mark.parametrize(
    ("label", "smallest_word", "expected"),
    [("bit", 2, "bits"), *[(str(reveal), 4, "an index of 2 bits") for reveal in Reveal]],
)
def test_a_peers_words_out_of_range_are_refused(
    monkeypatch: pytest.MonkeyPatch, label: str, smallest_word: int, expected: str
) -> None:
    reveal = Reveal.BOTH if label == "bit" else Reveal(label)
    frame = Direction.frame
    for word in (smallest_word, 2**63, 2**64 - 1):

        def spoilt(self: Direction, name: str, array: Any, word: int = word) -> bytes:
            return frame(self, name, np.full_like(array, word) if name == f"identification/{label}" else array)

        monkeypatch.setattr(Direction, "frame", spoilt)
        with pytest.raises(ProtocolError, match=f"^identification/{label} from .*: expected {expected}$"):
            on_shares(lambda party, share: reveal_indices(party, share, 5, 2, reveal), ring([1, 2, 3]))


def test_what_is_refused() -> None:
    def side(party: Any, share: Any) -> None:
        for count in (0, 4):
            with pytest.raises(ParameterError, match="keys"):
                smallest(party, share, count)
        with pytest.raises(ParameterError, match="groups"):
            smallest_of_groups(party, share, [2, 2])
        with pytest.raises(ParameterError, match="indices below 2\\^1"):
            with_indices(share, np.arange(3), 1, party.rank)
        with pytest.raises(ParameterError, match="bound"):
            reveal_indices(party, share, 0, 2, Reveal.BOTH)

    on_shares(side, ring([1, 2, 3]))
