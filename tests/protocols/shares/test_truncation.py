"""Masked truncation: never more than one last bit above the floor, at every edge; the opening is uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic.fixed_point import RingArray, share
from protocols.correlations import TruncationMask
from protocols.errors import ParameterError
from protocols.shares.party import MpcParty
from protocols.shares.truncation import truncate, truncation_requests
from support.helpers import assert_uniform_bytes, run_locally

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
