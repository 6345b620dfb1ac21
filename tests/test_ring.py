"""Ring arithmetic against Python's integers, and the distribution of what is drawn."""

import numpy as np
import pytest
from helpers import assert_uniform, assert_uniform_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError
from protocols.ring import CrtModulus, _random_below, decode, encode, multiply_mod, random_ring, share

PRIMES = [3, 257, 70368743669761, 140737488273409, 2**48 - 59, 2**50 - 27]
MODULI = [CrtModulus(140737488273409, 70368743669761), CrtModulus(2**48 - 59, 2**48 - 65), CrtModulus(257, 251)]
EDGES = [0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
words = st.integers(0, 2**64 - 1) | st.sampled_from(EDGES)
fast = settings(max_examples=60, deadline=None)


def residues(modulus: CrtModulus, values: list[int]) -> list[list[int]]:
    """The residues of integers, by Python."""
    return [[v % p for v in values] for p in (modulus.p0, modulus.p1)]


@pytest.mark.parametrize("bits", [0, 16, 32])
def test_encode_and_decode_round_trip_to_half_a_last_bit(bits: int) -> None:
    values = np.array([0.0, 0.3, -0.3, 1.0, -1.0, 12345.678, -12345.678])
    assert np.abs(decode(encode(values, bits), bits) - values).max() <= 2.0 ** -(bits + 1)
    assert encode([-1.0], bits)[0] == 2**64 - 2**bits


def test_encode_rounds_to_nearest_even_and_takes_its_whole_range() -> None:
    assert encode(np.array([0.5, 1.5, 2.5, -0.5]), 0).view(np.int64).tolist() == [0, 2, 2, 0]
    largest = np.nextafter(2.0**46, 0)
    assert decode(encode([largest, -largest])).tolist() == [largest, -largest]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**46, -(2.0**46), 1e300])
def test_encode_refuses_what_fixed_point_cannot_hold(value: float) -> None:
    with pytest.raises(ParameterError, match="fixed point takes finite"):
        encode([0.0, value])


@given(st.lists(words, min_size=1, max_size=5))
@fast
def test_shares_add_up(values: list[int]) -> None:
    ring = np.array(values, dtype=np.uint64)
    first, second = share(ring)
    assert (first + second == ring).all()


@pytest.mark.parametrize("secret", [0, 1, 2**64 - 1])
def test_each_share_is_uniform_and_fresh(secret: int) -> None:
    ring = np.full((100, 400), secret, dtype=np.uint64)
    first, second = share(ring)
    assert first.shape == second.shape == ring.shape
    assert_uniform_bytes(first)
    assert_uniform_bytes(second)
    assert not (first == share(ring)[0]).any()


def test_random_ring_has_the_shape_asked_for_and_can_be_written_to() -> None:
    drawn = random_ring((2, 0, 3))
    assert drawn.shape == (2, 0, 3)
    drawn = random_ring(5)
    drawn += np.uint64(1)
    assert drawn.shape == (5,)


@pytest.mark.parametrize("prime", PRIMES)
@given(data=st.data())
@fast
def test_multiply_mod_is_exact(prime: int, data: st.DataObject) -> None:
    edges = [0, 1, 2, prime // 2, prime // 2 + 1, prime - 2, prime - 1]
    factor = st.sampled_from(edges) | st.integers(0, prime - 1)
    a, b = (data.draw(st.lists(factor, min_size=30, max_size=30)) for _ in range(2))
    product = multiply_mod(np.array(a, dtype=np.uint64), np.array(b, dtype=np.uint64), prime)
    assert product.tolist() == [x * y % prime for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("prime", PRIMES)
def test_multiply_mod_is_exact_next_to_multiples_of_the_prime(prime: int) -> None:
    # b = (k p + d) / a mod p: the products whose quotient estimate is closest to an integer.
    a = np.arange(1, 3000, dtype=np.uint64) % np.uint64(prime - 1) + np.uint64(1)
    for remainder in (0, 1, prime - 1):
        b = np.array([pow(int(x), -1, prime) * remainder % prime for x in a], dtype=np.uint64)
        assert (multiply_mod(a, b, prime) == remainder).all()


@pytest.mark.parametrize("modulus", MODULI)
@given(values=st.lists(words, min_size=1, max_size=8), bits=st.integers(0, 30), offset=st.sampled_from([0, -(2**64)]))
@fast
def test_lift(modulus: CrtModulus, values: list[int], bits: int, offset: int) -> None:
    lifted = modulus.lift(np.array(values, dtype=np.uint64), bits, offset)
    assert lifted.tolist() == residues(modulus, [(v + offset) << bits for v in values])


@pytest.mark.parametrize("modulus", MODULI)
@given(values=st.lists(words.map(lambda v: v - 2**63), min_size=1, max_size=8), bits=st.integers(0, 30))
@fast
def test_lift_signed(modulus: CrtModulus, values: list[int], bits: int) -> None:
    lifted = modulus.lift_signed(np.array(values, dtype=np.int64), bits)
    assert lifted.tolist() == residues(modulus, [v << bits for v in values])


@pytest.mark.parametrize("modulus", MODULI)
@given(data=st.data(), bits=st.integers(1, 63))
@fast
def test_shift_right(modulus: CrtModulus, data: st.DataObject, bits: int) -> None:
    q, p0 = modulus.p0 * modulus.p1, modulus.p0
    edges = [e for e in (0, 1, p0 - 1, p0, q - p0, q - p0 - 1, q // 2, q - 1, 2**64 - 1, 2**64, 2**64 + p0) if e < q]
    values = edges + data.draw(st.lists(st.integers(0, q - 1), max_size=5))
    composed = modulus.shift_right(np.array(residues(modulus, values), dtype=np.uint64), bits)
    assert composed.tolist() == [(v >> bits) % 2**64 for v in values]


@pytest.mark.parametrize("modulus", MODULI)
@given(data=st.data())
@fast
def test_add_and_subtract(modulus: CrtModulus, data: st.DataObject) -> None:
    q = modulus.p0 * modulus.p1
    edge = st.sampled_from([0, 1, q - 1]) | st.integers(0, q - 1)
    a, b = (data.draw(st.lists(edge, min_size=4, max_size=4)) for _ in range(2))
    first, second = (np.array(residues(modulus, v), dtype=np.uint64) for v in (a, b))
    pairs = list(zip(a, b, strict=True))
    assert modulus.add(first, second).tolist() == residues(modulus, [x + y for x, y in pairs])
    assert modulus.subtract(first, second).tolist() == residues(modulus, [x - y for x, y in pairs])


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 129, 200, 257, 1000])
def test_random_below_is_unbiased(bound: int) -> None:
    drawn = _random_below(bound, 40_000)
    assert drawn.shape == (40_000,)
    assert drawn.max() < bound
    if bound > 1:
        assert_uniform(drawn, bound)


@pytest.mark.parametrize("bound", [3 << 46, (1 << 47) + 1, 2**48 - 59])
def test_random_below_is_unbiased_where_reduction_would_not_be(bound: int) -> None:
    drawn = _random_below(bound, 40_000)
    assert_uniform(drawn, bound, bins=96)
    assert_uniform(drawn & np.uint64(255), 256)


@pytest.mark.parametrize("modulus", MODULI)
def test_random_elements_of_the_modulus_are_uniform(modulus: CrtModulus) -> None:
    drawn = modulus.random((3, 20_000))
    assert drawn.shape == (3, 2, 20_000)
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        assert_uniform(drawn[:, plane], prime, bins=64)


def test_random_elements_of_a_small_modulus_are_uniform_as_integers() -> None:
    modulus = CrtModulus(17, 13)
    drawn = modulus.random((60_000,))
    integers = [next(v for v in range(221) if (v % 17, v % 13) == (r, s)) for r in range(17) for s in range(13)]
    assert_uniform(np.array(integers).reshape(17, 13)[drawn[0].astype(int), drawn[1].astype(int)], 221)


@pytest.mark.parametrize(("p0", "p1"), [(251, 257), (251, 251), (2**48 + 1, 3), (5, 1), (5, -3)])
def test_modulus_refuses_other_primes(p0: int, p1: int) -> None:
    with pytest.raises(ParameterError, match="CrtModulus takes primes"):
        CrtModulus(p0, p1)


@pytest.mark.parametrize("bits", [-1, 0, 64])
def test_shift_right_refuses_other_shifts(bits: int) -> None:
    with pytest.raises(ParameterError, match="shift_right takes"):
        MODULI[0].shift_right(np.zeros((2, 1), dtype=np.uint64), bits)
