"""Residues of up to 60 bits: exact products, uniform expansion, and bytes that come back or are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import ParameterError, ProtocolError
from protocols.pure_he.residues import (
    expand_uniform,
    multiply_mod,
    pack,
    packed_bytes,
    subtract_mod,
    sum_mod,
    unpack,
)
from support.statistics import assert_uniform

PRIMES = (1152921504606748673, 288230376150630401, 1099503894529, 12289)
WORDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50)


@given(st.sampled_from(PRIMES), WORDS)
def test_products_differences_and_sums_are_exact(prime: int, words: list[int]) -> None:
    first = [w % prime for w in words] + [prime - 1, prime - 1, 0, 1]
    second = [w * 7919 % prime for w in words] + [prime - 1, 1, prime - 1, prime - 1]
    a, b = np.array(first, dtype=np.uint64), np.array(second, dtype=np.uint64)
    assert multiply_mod(a, b, prime).tolist() == [x * y % prime for x, y in zip(first, second, strict=True)]
    assert subtract_mod(a, b, prime).tolist() == [(x - y) % prime for x, y in zip(first, second, strict=True)]
    assert sum_mod(a, prime) == sum(first) % prime


def test_products_refuse_larger_primes() -> None:
    with pytest.raises(ParameterError, match="60 bits"):
        multiply_mod(np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint64), 2**61 - 1)


def test_expansion_is_uniform_and_says_what_the_seed_says() -> None:
    expanded = expand_uniform(b"s" * 32, PRIMES, 3, 1024)
    assert expanded.shape == (3, 4, 1024)
    for row, prime in enumerate(PRIMES):
        assert_uniform(expanded[:, row], prime, 32)
    assert len(np.unique(expanded[:, 0])) == 3 * 1024
    assert np.array_equal(expanded, expand_uniform(b"s" * 32, PRIMES, 3, 1024))
    assert not np.array_equal(expanded, expand_uniform(b"t" * 32, PRIMES, 3, 1024))
    with pytest.raises(ParameterError, match="polynomials from a seed"):
        expand_uniform(b"s" * 32, PRIMES, 2**15, 8)


def test_bytes_come_back() -> None:
    residues = expand_uniform(b"s" * 32, PRIMES, 2, 64)
    wire = pack(residues, PRIMES)
    assert wire.shape == (packed_bytes(PRIMES, 2, 64),) == (2 * 64 * (8 + 8 + 5 + 2),)
    assert np.array_equal(unpack(wire, PRIMES, 2, 64, "key"), residues)


def test_bytes_that_are_no_residues_are_refused() -> None:
    wire = pack(expand_uniform(b"s" * 32, PRIMES, 1, 64), PRIMES)
    with pytest.raises(ProtocolError, match="key: expected 1472 bytes"):
        unpack(wire[:-1], PRIMES, 1, 64, "key")
    for position in (7, -1):  # the top byte of the first and of the last residue
        hostile = wire.copy()
        hostile[position] = 255
        with pytest.raises(ProtocolError, match="key: expected residues below"):
            unpack(hostile, PRIMES, 1, 64, "key")
    for row, prime in enumerate(PRIMES):
        largest = np.tile(np.array(PRIMES, dtype=np.uint64)[:, None] - np.uint64(1), (1, 1, 64))
        assert (unpack(pack(largest, PRIMES), PRIMES, 1, 64, "key") == largest).all()
        largest[0, row, 17] += np.uint64(1)
        with pytest.raises(ProtocolError, match=f"key: expected residues below {prime}, got a larger one"):
            unpack(pack(largest, PRIMES), PRIMES, 1, 64, "key")
