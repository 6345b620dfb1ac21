"""Comparisons on shares: exact at every edge, rounds and bytes as promised, and everything opened is uniform."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import is_nonnegative, max_pool, max_pool_requests, maximum, relu, relu_requests, sign_requests
from protocols.arithmetic.bitplanes import unpack_plane
from protocols.correlations import ComparisonMask
from protocols.correlations.comparison_masks import WIDTHS
from protocols.errors import ParameterError
from protocols.shares.comparison import interval_requests, is_below
from protocols.shares.party import to_ring
from support.frames import record
from support.shares import dealer_bytes, on_shares, opened, pool_is_empty, run_locally
from support.statistics import assert_uniform_bytes

fast = settings(max_examples=20, deadline=None)


def ring(values: Any) -> Any:
    return np.asarray(values, dtype=np.int64).view(np.uint64)


def signs(values: Any, bits: int) -> Any:
    """Run the comparison and return [x >= 0] for every value."""

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(sign_requests(share.size, bits))
        plane = to_ring(is_nonnegative(party, share, bits))
        assert pool_is_empty(party)
        return plane

    first, second = on_shares(side, ring(values))
    return unpack_plane(first ^ second, len(values))


@pytest.mark.parametrize("bits", WIDTHS)
def test_signs_at_the_edges_of_the_range(bits: int) -> None:
    top = 2 ** (bits - 1)
    edges = [0, -1, 1, 2, -2, top - 1, -(top - 1), -top, top // 2, -(top // 2), top // 2 - 1, -(top // 2) - 1]
    values = edges * 12  # each edge meets many masks
    assert signs(values, bits).tolist() == [v >= 0 for v in values]


@pytest.mark.slow
@pytest.mark.parametrize("bits", WIDTHS)
@given(data=st.data())
@fast
def test_signs_of_random_values_in_any_number(bits: int, data: st.DataObject) -> None:
    top = 2 ** (bits - 1)
    size = data.draw(st.sampled_from([1, 63, 64, 65, 130]))
    values = data.draw(st.lists(st.integers(-top, top - 1), min_size=size, max_size=size))
    assert signs(values, bits).tolist() == [v >= 0 for v in values]


@pytest.mark.parametrize("bits", [8, 19, 32])
def test_signs_of_every_value_of_a_small_range(bits: int) -> None:
    values = list(range(-128, 128)) * 3
    assert signs(values, bits).tolist() == [v >= 0 for v in values]


class Chosen:
    """A party's end of correlations whose first uniform field has chosen values."""

    def __init__(self, rank: int, values: Any, draws: Any) -> None:
        self._rank, self._values, self._random = rank, values, draws

    def take(self, request: Any) -> Any:
        first, second = ([self._draw(f.shape) for f in request.uniform] for _ in range(2))
        if isinstance(request, ComparisonMask):
            second[0] = self._values - first[0]
        values = request.derive(first, second)
        shares = [self._draw(f.shape) for f in request.derived]
        rest = [f.complement(v, s) for f, v, s in zip(request.derived, values, shares, strict=True)]
        return [first + shares, second + rest][self._rank]

    def _draw(self, shape: Any) -> Any:
        return self._random.integers(0, 2**64, shape, dtype=np.uint64)


@pytest.mark.parametrize("bits", [4, 8])
def test_every_opened_value_with_every_mask(bits: int) -> None:
    c, r = (values.ravel() for values in np.meshgrid(*[np.arange(2**bits, dtype=np.uint64)] * 2))

    def side(party: Any) -> Any:
        source = Chosen(party.rank, r, np.random.default_rng(bits))  # both ends draw the same
        share = c - r if party.rank else np.zeros_like(c)
        return to_ring(is_nonnegative(dataclasses.replace(party, correlations=source), share, bits))

    first, second = run_locally(side, side)
    top = (c - r) >> np.uint64(bits - 1) & np.uint64(1)
    assert (unpack_plane(first ^ second, c.size) == 1 - top).all()


def below(values: Any, bound: int) -> Any:
    """Run the comparison with an interval and return [0 <= x < bound] for every value."""

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(interval_requests(share.size))
        before = dealer_bytes(party)
        plane = to_ring(is_below(party, share, bound))
        assert pool_is_empty(party)
        assert dealer_bytes(party) == before
        return plane

    first, second = on_shares(side, ring(values))
    return unpack_plane(first ^ second, len(values))


@pytest.mark.parametrize("bound", [1, 2, 5, 2**32, 2**62, 2**63 - 1])
def test_an_interval_at_its_edges(bound: int) -> None:
    edges = [0, 1, -1, bound - 1, bound, min(bound + 1, 2**63 - 1), -bound, bound - 2**63, -(2**63), 2**63 - 1]
    values = edges * 12
    assert below(values, bound).tolist() == [0 <= v < bound for v in values]


@given(st.data())
@fast
def test_an_interval_of_random_values(data: st.DataObject) -> None:
    bound = data.draw(st.integers(1, 2**63 - 1))
    near = st.integers(-3, 3).map(lambda step: min(bound + step, 2**63 - 1))
    values = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | near, min_size=1, max_size=130))
    assert below(values, bound).tolist() == [0 <= v < bound for v in values]


def test_every_opened_value_and_mask_of_a_small_interval() -> None:
    """c runs over the places around 0 and the bound where c < bound, c < r and c - bound < r change."""
    bound = 5
    c, r = (values.ravel() for values in np.meshgrid(*[np.arange(-20, 20).view(np.uint64)] * 2))

    def side(party: Any) -> Any:
        source = Chosen(party.rank, r, np.random.default_rng(1))
        share = c - r if party.rank else np.zeros_like(c)
        return to_ring(is_below(dataclasses.replace(party, correlations=source), share, bound))

    first, second = run_locally(side, side)
    assert (unpack_plane(first ^ second, c.size) == (c - r < bound)).all()


EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 1 - 2**31, 2**30, -(2**30), 65536, -65536]


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.sampled_from(EDGES), min_size=1, max_size=150))
@fast
def test_relu_is_exact(values: list[int]) -> None:
    assert opened(relu, ring(values)).tolist() == [max(v, 0) for v in values]


@pytest.mark.parametrize("bits", WIDTHS)
def test_relu_of_any_width(bits: int) -> None:
    top = 2 ** (bits - 1)
    values = np.array([0, 1, -1, top - 1, -top, top // 3, -top // 3] * 20)
    assert (opened(lambda party, x: relu(party, x, bits), ring(values)) == np.maximum(values, 0)).all()


def test_relu_at_the_edges_and_in_any_shape() -> None:
    values = np.array(EDGES * 12).reshape(2, 3, 4, 5)
    assert (opened(relu, ring(values)) == np.maximum(values, 0)).all()
    assert opened(relu, ring(np.zeros((0, 3)))).shape == (0, 3)
    assert relu_requests(0) == []


def test_relu_of_many_values_is_exact() -> None:
    values = np.random.default_rng(7).integers(-(2**31), 2**31, 3 * 2**14 + 70)
    assert (opened(relu, ring(values)) == np.maximum(values, 0)).all()


@given(st.data())
@fast
def test_maximum_is_exact(data: st.DataObject) -> None:
    half = st.integers(-(2**30), 2**30 - 1) | st.sampled_from([0, -(2**30), 2**30 - 1])
    size = data.draw(st.integers(1, 70))
    first, second = (data.draw(st.lists(half, min_size=size, max_size=size)) for _ in range(2))
    assert opened(maximum, ring(first), ring(second)).tolist() == np.maximum(first, second).tolist()


def test_maximum_depends_on_the_difference_only() -> None:
    base = np.array([2**62, -(2**62), 2**63 - 1], dtype=np.int64)
    assert (opened(maximum, ring(base), ring(base - 5)) == base).all()


POOLS = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0)),
    ((1, 2, 9, 7), (3, 3), (2, 2), (1, 1)),
    ((1, 1, 7, 9), (3, 2), (1, 3), (1, 0)),
    ((1, 1, 5, 6), (4, 5), (2, 1), (2, 2)),
    ((2, 1, 4, 4), (1, 1), (3, 1), (0, 0)),
    ((1, 2, 4, 4), (4, 4), (1, 1), (0, 0)),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOLS)
def test_max_pool_is_torchs_and_uses_what_it_says(shape: Any, kernel: Any, stride: Any, padding: Any) -> None:
    values = np.random.default_rng(0).integers(-(2**29), 2**29, shape)
    values.flat[0] = -(2**29) + 1

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(max_pool_requests(shape, kernel, stride, padding))
        before = dealer_bytes(party)
        result = max_pool(party, share, kernel, stride, padding)
        assert pool_is_empty(party)
        assert dealer_bytes(party) == before
        return result

    expected = torch.nn.functional.max_pool2d(torch.from_numpy(values).double(), kernel, stride, padding).numpy()
    assert (opened(side, ring(values)) == expected).all()


@pytest.mark.parametrize("bits", [8, 19, 32])
def test_max_pool_pads_below_the_lowest_value_and_within_the_range(bits: int) -> None:
    """A window with padding whose values are at the ends of the range, alone, together, and all of them the lowest."""
    edge = 2 ** (bits - 2) - 1
    values = np.random.default_rng(1).choice([-edge, 1 - edge, edge], (1, 4, 6, 6), p=[0.6, 0.3, 0.1])
    values[0, 0] = -edge
    window = (3, 3), (1, 1), (1, 1)
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(values).double(), *window).numpy()
    assert (opened(lambda party, share: max_pool(party, share, *window, bits), ring(values)) == expected).all()


@pytest.mark.parametrize("count", [1, 64, 100, 4096])
@pytest.mark.parametrize("bits", [8, 32, 64])
def test_a_comparison_asks_the_dealer_for_nothing_more(count: int, bits: int) -> None:
    def side(party: Any, share: Any) -> None:
        for requests, run in (
            (sign_requests(count, bits), lambda: is_nonnegative(party, share, bits)),
            (relu_requests(count), lambda: relu(party, share)),
        ):
            party.correlations.prepare(requests)
            before = dealer_bytes(party)
            run()
            assert pool_is_empty(party)
            assert dealer_bytes(party) == before

    on_shares(side, ring(np.zeros(count)))


def cost(function: Any, requests: Any, count: int) -> Any:
    """Return the rounds, and the bytes each way, of a function on `count` elements."""

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(requests)
        before = copy.copy(party.channel.statistics)
        function(party, share)
        after = party.channel.statistics
        return after.rounds - before.rounds, after.bytes_sent - before.bytes_sent

    ours, theirs = on_shares(side, ring(np.zeros(count)))
    assert ours == theirs
    return ours


OPENED = {4: (), 8: (2,), 16: (6,), 19: (8, 4), 22: (9, 4), 28: (14, 4), 32: (11, 6), 64: (27, 6)}
"""Bits per element that each level of the tree opens."""


@pytest.mark.parametrize("count", [64 * 500, 100])
@pytest.mark.parametrize("bits", OPENED)
def test_what_a_comparison_costs(bits: int, count: int) -> None:
    words, levels = -(-count // 64), OPENED[bits]
    rounds, sent = cost(lambda party, x: is_nonnegative(party, x, bits), sign_requests(count, bits), count)
    assert rounds == 1 + len(levels) <= 3
    assert sent == (24 + 8 * count) + sum(32 + 8 * words * opened for opened in levels)


def test_a_large_relu_takes_four_rounds_and_some_ten_bytes_per_element() -> None:
    count = 64 * 500
    rounds, sent = cost(relu, relu_requests(count), count)
    assert rounds == 4
    assert sent == (8 + (11 + 6 + 1) / 8) * count + 24 + 32 + 32 + 24


def test_a_window_of_four_rounds_per_comparison() -> None:
    shape, window = (1, 2, 8, 8), ((3, 3), (2, 2))
    rounds, _ = cost(
        lambda party, x: max_pool(party, x.reshape(shape), *window), max_pool_requests(shape, *window), 128
    )
    assert rounds == 4 * (2 + 2)


def test_narrow_comparisons_take_as_many_rounds_and_fewer_correlations() -> None:
    count = 64 * 500
    words = []
    for bits in (19, 22, 28, 32):
        rounds, _ = cost(lambda party, x, bits=bits: relu(party, x, bits), relu_requests(count, bits), count)
        assert rounds == 4
        words.append(sum(int(np.prod(f.shape)) for r in relu_requests(count, bits) for f in r.derived))
    assert words == sorted(words)
    assert words[2] == 2 * count + 500 * (9 * 7 + 1) + 500 * (2 * 8 + 5) + 500 * 5


def test_an_interval_takes_three_rounds() -> None:
    rounds, sent = cost(lambda party, x: is_below(party, x, 5), interval_requests(64), 64)
    assert rounds == 3
    assert sent == (24 + 8 * 64) + (32 + 8 * 2 * 27) + (32 + 8 * 2 * 6)


def test_what_the_dealer_sends() -> None:
    """Words of correction: two per element for the selection, and bit planes."""
    count = 64 * 500
    sizes = {r: sum(int(np.prod(f.shape)) for f in r.derived) for r in relu_requests(count)}
    assert list(sizes.values()) == [2 * count + 500 * (7 + 7 * 15 + 1), 500 * (4 + 3), 500 * 15]
    assert 8 * sum(sizes.values()) == (16 + (113 + 7 + 15) / 8) * count


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, -(2**31)])
def test_everything_that_is_opened_is_uniform(value: int) -> None:
    count = 64 * 128

    def side(party: Any, share: Any) -> Any:
        sent = record(party.channel)
        relu(party, share)
        return sent

    ours, theirs = on_shares(side, ring(np.full(count, value)))
    ours, theirs = (
        [np.frombuffer(frame[16 + 8 * frame[8] :], dtype=np.uint64) for frame in side] for side in (ours, theirs)
    )
    assert [frame.size for frame in ours] == [count, 11 * 128, 6 * 128, 128]
    for index, (first, second) in enumerate(zip(ours, theirs, strict=True)):
        for message in (first, second):
            assert_uniform_bytes(message)
        assert_uniform_bytes(first ^ second if index else first + second)


@pytest.mark.parametrize("bits", [0, 2, 3, 12, 33, 128])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ParameterError, match="expected 4, 8, 16, 19, 22, 28, 32, 64 bits"):
        ComparisonMask(10, bits)
