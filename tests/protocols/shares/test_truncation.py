"""Masked truncation: never more than one last bit above the floor, at every edge; the opening is uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic.fixed_point import RingArray, share
from protocols.correlations import TruncationMask
from protocols.errors import ParameterError
from protocols.shares.party import MpcParty
from protocols.shares.truncation import public_factor, scale, scale_requests, truncate, truncation_requests
from support.shares import run_locally
from support.statistics import assert_uniform_bytes

EDGES = [0, 1, -1, 65535, 65536, -65535, -65536, -65537, 2**62 - 1, -(2**62), 2**61]


def truncated(values: list[int] | np.ndarray, bits: int) -> np.ndarray:
    z = np.asarray(values, dtype=np.int64)
    first, second = share(z.view(np.uint64))
    a, b = run_locally(lambda party: truncate(party, first, bits), lambda party: truncate(party, second, bits))
    return (a + b).view(np.int64) - (z >> bits)


@pytest.mark.parametrize("bits", [1, 16, 32, 61])
def test_edges(bits: int) -> None:
    for _ in range(20):
        assert set(truncated(EDGES, bits)) <= {0, 1}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-(2**62), 2**62 - 1), min_size=1, max_size=50), st.integers(1, 61))
def test_any_value(values: list[int], bits: int) -> None:
    assert set(truncated(values, bits)) <= {0, 1}


def test_large_values_never_fail() -> None:
    """Local truncation would fail for about one in four of these."""
    values = np.random.default_rng(0).integers(-(2**62), 2**62, 100_000)
    assert set(truncated(values, 16)) == {0, 1}


def test_what_is_opened_is_uniform() -> None:
    seen: list[RingArray] = []

    def client(party: MpcParty) -> RingArray:
        exchange = party.channel.exchange

        def record(label: str, array: RingArray) -> RingArray:
            other = exchange(label, array)
            seen.append(array + other)
            return other

        party.channel.exchange = record  # type: ignore[method-assign]
        return truncate(party, zeros, 16)

    zeros = np.zeros(100_000, dtype=np.uint64)
    run_locally(client, lambda party: truncate(party, zeros, 16))
    assert_uniform_bytes(seen[0])


def test_bad_width() -> None:
    with pytest.raises(ParameterError, match="1 to 61"):
        TruncationMask((3,), 62)
    assert truncation_requests((3,), 16) == [TruncationMask((3,), 16)]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-(2**41), 2**41), min_size=1, max_size=20),
    st.one_of(
        st.floats(-(2.0**18), 2.0**18).filter(lambda x: x == 0 or abs(x) > 2.0**-41), st.sampled_from([1.0, -0.5])
    ),
)
def test_a_public_factor(values: list[int], factor: float) -> None:
    x = np.array(values, dtype=np.int64)
    first, second = share(x.view(np.uint64))
    a, b = run_locally(lambda party: scale(party, first, factor), lambda party: scale(party, second, factor))
    integer, bits = public_factor(factor)
    assert abs(integer / 2**bits - factor) <= 2**-20 * abs(factor)
    floors = [value * integer >> bits for value in values]
    assert set((a + b).view(np.int64) - floors) <= {0, 1}
    assert scale_requests(x.shape, factor) == [TruncationMask(x.shape, bits)]


@pytest.mark.parametrize("factor", [2.0**19, -(2.0**30), 2.0**-43, float("inf"), float("nan")])
def test_a_factor_out_of_range_is_refused(factor: float) -> None:
    with pytest.raises(ParameterError, match="expected a factor of magnitude"):
        public_factor(factor)
