"""Comparisons on shares: exact at every edge, six rounds, and everything opened is uniform."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_uniform_bytes, dealer_bytes, on_shares, opened, pool_is_empty, record
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import is_nonnegative, max_pool, max_pool_requests, maximum, relu, relu_requests, sign_requests
from protocols.bitplanes import unpack_plane
from protocols.correlations import ComparisonMask
from protocols.errors import ParameterError
from protocols.mpc import to_ring

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


@pytest.mark.parametrize("bits", [4, 8, 16, 32, 64])
def test_signs_at_the_edges_of_the_range(bits: int) -> None:
    top = 2 ** (bits - 1)
    edges = [0, -1, 1, 2, -2, top - 1, -(top - 1), -top, top // 2, -(top // 2), top // 2 - 1, -(top // 2) - 1]
    values = edges * 12  # each edge meets many masks
    assert signs(values, bits).tolist() == [v >= 0 for v in values]


@pytest.mark.parametrize("bits", [4, 8, 16, 32, 64])
@given(data=st.data())
@fast
def test_signs_of_random_values_in_any_number(bits: int, data: st.DataObject) -> None:
    top = 2 ** (bits - 1)
    size = data.draw(st.sampled_from([1, 63, 64, 65, 130]))
    values = data.draw(st.lists(st.integers(-top, top - 1), min_size=size, max_size=size))
    assert signs(values, bits).tolist() == [v >= 0 for v in values]


@pytest.mark.parametrize("bits", [8, 32])
def test_signs_of_every_value_of_a_small_range(bits: int) -> None:
    values = list(range(-128, 128)) * 3
    assert signs(values, bits).tolist() == [v >= 0 for v in values]


EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 1 - 2**31, 2**30, -(2**30), 65536, -65536]


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.sampled_from(EDGES), min_size=1, max_size=150))
@fast
def test_relu_is_exact(values: list[int]) -> None:
    assert opened(relu, ring(values)).tolist() == [max(v, 0) for v in values]


def test_relu_at_the_edges_and_in_any_shape() -> None:
    values = np.array(EDGES * 12).reshape(2, 3, 4, 5)
    assert (opened(relu, ring(values)) == np.maximum(values, 0)).all()
    assert opened(relu, ring(np.zeros((0, 3)))).shape == (0, 3)
    assert relu_requests(0) == []


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


def test_a_large_relu_takes_six_rounds_and_fourteen_bytes_per_element() -> None:
    count = 64 * 500

    def side(party: Any, share: Any) -> Any:
        party.correlations.prepare(relu_requests(count))
        before = party.channel.statistics.snapshot()
        relu(party, share)
        after = party.channel.statistics
        return after.rounds - before.rounds, after.bytes_sent - before.bytes_sent

    for rounds, sent in on_shares(side, ring(np.zeros(count))):
        assert rounds == 6
        assert 13 <= sent / count <= 14


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, -(2**31)])
def test_everything_that_is_opened_is_uniform(value: int) -> None:
    count = 64 * 128

    def side(party: Any, share: Any) -> Any:
        sent = record(party.channel)
        relu(party, share)
        return sent

    ours, theirs = on_shares(side, ring(np.full(count, value)))
    ours, theirs = ([np.frombuffer(frame[16:], dtype=np.uint64) for frame in side] for side in (ours, theirs))
    assert [frame.size for frame in ours] == [count, 24 * 128, 12 * 128, 6 * 128, 2 * 128, 128]
    for index, (first, second) in enumerate(zip(ours, theirs, strict=True)):
        for message in (first, second):
            assert_uniform_bytes(message)
        assert_uniform_bytes(first ^ second if index else first + second)


@pytest.mark.parametrize("bits", [0, 2, 3, 12, 33, 128])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ParameterError, match="expected 4, 8, 16, 32 or 64 bits"):
        ComparisonMask(10, bits)
