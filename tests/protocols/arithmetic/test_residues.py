"""Ring arithmetic against Python's integers, and the distribution of what is drawn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic.fixed_point import decode, encode, random_ring, share
from protocols.arithmetic.kernels import MAX_TERMS
from protocols.arithmetic.residues import DROPPED_BITS, CrtModulus, _random_below
from protocols.errors import ParameterError, ProtocolError
from support.residues import integers
from support.statistics import assert_uniform, assert_uniform_bytes

MODULI = [
    CrtModulus(140737488273409, 70368743669761),
    CrtModulus(2**48 - 59, 2**44 - 17),
    CrtModulus(2**41 + 27, 2**40 + 15),
]
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


@pytest.mark.slow
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


def test_random_elements_are_uniform_as_integers() -> None:
    for modulus in MODULI:
        drawn = integers(modulus, modulus.random((20_000,)))
        assert_uniform([v * 2**20 // (modulus.p0 * modulus.p1) for v in drawn], 2**20, bins=100)
        assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    ("p0", "p1"),
    [
        (MODULI[0].p1, MODULI[0].p0),
        (MODULI[0].p0, MODULI[0].p0),
        (2**48, 2**44),
        (2**48 - 59, 2**46 - 57),
        (2**41 + 27, 2**40),
        (257, 251),
        (2**47, -(2**45)),
    ],
)
def test_modulus_refuses_other_primes(p0: int, p1: int) -> None:
    with pytest.raises(ParameterError, match="CrtModulus takes primes"):
        CrtModulus(p0, p1)


@pytest.mark.parametrize("bits", [-1, 0, 64])
def test_shift_right_refuses_other_shifts(bits: int) -> None:
    with pytest.raises(ParameterError, match="shift_right takes"):
        MODULI[0].shift_right(np.zeros((2, 1), dtype=np.uint64), bits)


Q = MODULI[0].p0 * MODULI[0].p1
elements = st.integers(0, Q - 1) | st.sampled_from([0, 1, Q - 1, Q // 2, MODULI[0].p0])


@pytest.mark.slow
@given(st.lists(elements, min_size=3, max_size=3), elements)
@fast
def test_negate_multiply_and_broadcast(values: list[int], factor: int) -> None:
    modulus = MODULI[0]
    a, b = (np.array(residues(modulus, v), dtype=np.uint64) for v in (values, [factor] * 3))
    assert integers(modulus, modulus.negate(a)) == [-v % Q for v in values]
    products = [v * factor % Q for v in values]
    assert integers(modulus, modulus.multiply(a, b)) == products
    both = modulus.multiply(np.stack([a, b]), b)
    assert [integers(modulus, row) for row in both] == [products, [factor * factor % Q] * 3]
    assert (modulus.add(np.stack([a, b]), a) == np.stack([modulus.add(a, a), modulus.add(b, a)])).all()
    assert (modulus.subtract(a, b[:, :1]) == modulus.subtract(a, b)).all()


@pytest.mark.parametrize(("n", "block"), [(4, 4), (512, 512), (1024, 512), (515, 515)])
def test_polynomials_in_blocks_lie_in_the_order_of_reading(n: int, block: int) -> None:
    polynomials = MODULI[0].random((6, n))[::2]
    cut = MODULI[0].in_blocks(polynomials)
    assert cut.shape == (2, n // block, 3, block)
    assert cut.flags.c_contiguous
    for k, r, j in np.ndindex(3, 2, n):
        assert cut[r, j // block, k, j % block] == polynomials[k, r, j]


def test_no_polynomials_in_blocks() -> None:
    assert MODULI[0].in_blocks(np.zeros((0, 2, 1024), dtype=np.uint64)).shape == (2, 2, 0, 512)


@pytest.mark.parametrize("n", [4, 1024])
def test_sums_of_products_of_what_is_a_view_of_something_else(n: int) -> None:
    modulus = MODULI[0]
    weights = modulus.random((6, n))[::2]
    inputs = modulus.random((3, 2, n)).swapaxes(0, 1)
    groups, bounds = np.array([1, 1, 0]), np.array([0, 2, 2, 3])
    came = modulus.multiply_accumulate(modulus.in_blocks(weights), groups, bounds, inputs)
    assert came.shape == (3, 3, 2, n)
    for q in range(3):
        terms = [modulus.multiply(weights[k], inputs[g, q]) for k, g in enumerate(groups)]
        assert (came[0, q] == modulus.add(terms[0], terms[1])).all()
        assert not came[1, q].any()
        assert (came[2, q] == terms[2]).all()
    later = modulus.multiply_accumulate(modulus.in_blocks(weights), groups, bounds[2:], inputs)
    assert (later == came[2:]).all()


@pytest.mark.parametrize(
    ("weights", "groups", "bounds", "inputs"),
    [
        ((2, 1, 2, 4), [0, 1], [0, 2], (1, 1, 2, 4)),
        ((2, 1, 2, 4), [0, -1], [0, 2], (2, 1, 2, 4)),
        ((2, 1, 2, 4), [0], [0, 1], (2, 1, 2, 4)),
        ((2, 1, 2, 4), [0, 1], [0, 2], (2, 1, 2, 5)),
        ((2, 1, 2, 4), [0, 1], [0, 2], (2, 1, 3, 4)),
        ((2, 2, 2, 4), [0, 1], [0, 2], (2, 1, 2, 4)),
        ((1, 1, 2, 4), [0, 1], [0, 2], (2, 1, 2, 4)),
        ((3, 1, 2, 4), [0, 1], [0, 2], (2, 1, 2, 4)),
        ((2, 1, 2, 4), [0, 1], [0, 3], (2, 1, 2, 4)),
        ((2, 1, 2, 4), [0, 1], [-1, 2], (2, 1, 2, 4)),
        ((2, 1, 2, 4), [0, 1], [0, 2, 1], (2, 1, 2, 4)),
        ((2, 1, 2, 4), [0, 1], [0, 5, 1], (2, 1, 2, 4)),
        ((2, 1, MAX_TERMS + 1, 1), [0] * (MAX_TERMS + 1), [0, MAX_TERMS + 1], (1, 1, 2, 1)),
    ],
)
def test_a_sum_of_products_refuses_what_would_be_out_of_bounds(
    weights: tuple[int, ...], groups: list[int], bounds: list[int], inputs: tuple[int, ...]
) -> None:
    with pytest.raises(ParameterError):
        MODULI[0].multiply_accumulate(
            np.zeros(weights, dtype=np.uint64),
            np.array(groups, dtype=np.int64),
            np.array(bounds, dtype=np.int64),
            np.zeros(inputs, dtype=np.uint64),
        )


def test_products_are_added_in_place() -> None:
    modulus = MODULI[0]
    a, b, key = modulus.random((3, 2, 5)), modulus.random((3, 5)), modulus.random((2, 5))
    expected = [[modulus.add(a[i, q], modulus.multiply(b[i], key[q])) for q in range(2)] for i in range(3)]
    modulus.add_multiplied(a, b, key)
    assert (a == np.array(expected)).all()


@pytest.mark.parametrize(
    ("a", "b", "key"),
    [
        ((3, 2, 2, 5), (2, 2, 5), (2, 2, 5)),
        ((3, 2, 2, 5), (3, 2, 5), (1, 2, 5)),
        ((3, 2, 2, 5), (3, 2, 4), (2, 2, 5)),
        ((3, 2, 2, 5), (3, 2, 5), (2, 2, 4)),
        ((3, 2, 2, 5), (3, 2, 5), (2, 1, 5)),
    ],
)
def test_products_of_other_shapes_are_not_added(a: Any, b: Any, key: Any) -> None:
    with pytest.raises(ParameterError, match="expected shapes"):
        MODULI[0].add_multiplied(*(np.zeros(shape, dtype=np.uint64) for shape in (a, b, key)))


def test_small_numbers_are_added_in_place() -> None:
    modulus = MODULI[0]
    a, values = modulus.random((3, 4)), np.random.default_rng(0).integers(-21, 22, (3, 4))
    a[0, :, :2] = 0, modulus.p1 - 1
    values[0, :2] = -1, 1
    expected = modulus.add(a, modulus.lift_signed(values))
    modulus.add_small(a, values)
    assert (a == expected).all()


@pytest.mark.parametrize("shape", [(3, 5), (2, 4), (4,), (3, 2, 4)])
def test_small_numbers_of_another_shape_are_not_added(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="expected residues"):
        MODULI[0].add_small(MODULI[0].random((3, 4)), np.zeros(shape, dtype=np.int64))


def test_only_contiguous_residues_are_written_to_in_place() -> None:
    modulus = MODULI[0]
    with pytest.raises(ParameterError, match="expected residues"):
        modulus.add_small(modulus.random((6, 4))[::2], np.zeros((3, 4), dtype=np.int64))
    with pytest.raises(ParameterError, match="expected shapes"):
        modulus.add_multiplied(modulus.random((6, 2, 4))[::2], modulus.random((3, 4)), modulus.random((2, 4)))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (2, 1, 4)])
def test_arrays_that_are_no_residue_pairs_are_refused(shape: tuple[int, ...]) -> None:
    modulus, array = MODULI[0], np.zeros(shape, dtype=np.uint64)
    for operation in (
        lambda: modulus.add(array, array),
        lambda: modulus.multiply(array, array),
        lambda: modulus.shift_right(array, 5),
        lambda: modulus.to_short_wire(array),
        lambda: modulus.multiply(array.astype(np.int64), array.astype(np.int64)),
    ):
        with pytest.raises((ParameterError, IndexError)):
            operation()


@given(st.integers(1, 2).flatmap(lambda k: st.lists(elements, min_size=4 * k, max_size=4 * k)))
@fast
def test_six_bytes_there_and_back(values: list[int]) -> None:
    modulus = MODULI[0]
    array = np.array([residues(modulus, values)] * 3, dtype=np.uint64)
    wire = modulus.to_wire(array)
    assert wire.shape == (3, 2, len(values), 6)
    assert wire.tobytes() == b"".join(int(v).to_bytes(6, "little") for v in array.ravel())
    assert (modulus.to_wire(array[::2]) == wire[::2]).all()
    assert (modulus.from_wire(wire, "test") == array).all()
    assert (modulus.from_wire(wire[::2], "test") == array[::2]).all()
    for offset in (0, 1, 4, 8):  # what a message's bytes are: read-only, and beginning anywhere
        came = np.frombuffer(bytes(offset) + wire.tobytes(), dtype=np.uint8, offset=offset).reshape(wire.shape)
        assert (modulus.from_wire(came, "test") == array).all()


def test_six_bytes_are_read_into_an_array_of_any_strides() -> None:
    modulus = MODULI[0]
    array = modulus.random((3, 8))
    room = np.full((3, 2, 2, 8), 7, dtype=np.uint64)
    modulus.from_wire(modulus.to_wire(array), "test", out=room[:, 1])
    assert (room[:, 1] == array).all()
    assert (room[:, 0] == 7).all()
    wire = modulus.to_wire(array).reshape(1, 3, 2, 8, 6)
    assert (modulus.from_wire(wire, "test", out=np.empty((3, 2, 8), dtype=np.uint64)) == array).all()


@pytest.mark.parametrize("shape", [(2, 2, 8), (3, 2, 4), (4, 2, 8), (6, 2, 4), (24, 2, 1)])
def test_six_bytes_are_not_read_into_other_room(shape: tuple[int, ...]) -> None:
    modulus = MODULI[0]
    with pytest.raises(ParameterError, match="expected room"):
        modulus.from_wire(modulus.to_wire(modulus.random((3, 8))), "test", out=np.empty(shape, dtype=np.uint64))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_six_bytes_take_multiples_of_four(n: int) -> None:
    with pytest.raises(ParameterError, match="expected a multiple of four"):
        MODULI[0].to_wire(np.zeros((1, 2, n), dtype=np.uint64))
    with pytest.raises(ParameterError, match="expected a multiple of four"):
        MODULI[0].from_wire(np.zeros((1, 2, n, 6), dtype=np.uint8), "test")


def short_rows(rows: list[list[int]]) -> Any:
    """Integers below 2^80 in rows: of each the low words, then the high ones."""
    raw = [
        b"".join((v % 2**64).to_bytes(8, "little") for v in row)
        + b"".join((v >> 64).to_bytes(2, "little") for v in row)
        for row in rows
    ]
    return np.frombuffer(b"".join(raw), dtype=np.uint8).reshape(len(rows), -1)


@given(st.lists(elements, min_size=1, max_size=6))
@fast
def test_ten_bytes_there_and_back(values: list[int]) -> None:
    modulus = MODULI[0]
    rows = [values, values[::-1]]
    array = np.array([residues(modulus, row) for row in rows], dtype=np.uint64)
    short = modulus.to_short_wire(array)
    assert short.shape == (2, 10 * len(values))
    assert short.tobytes() == short_rows([[v >> DROPPED_BITS for v in row] for row in rows]).tobytes()
    kept = [[v >> DROPPED_BITS << DROPPED_BITS for v in row] for row in rows]
    assert [integers(modulus, row) for row in modulus.from_short_wire(short, "test")] == kept
    for offset in (0, 1, 4):
        came = np.frombuffer(bytes(offset) + short.tobytes(), dtype=np.uint8, offset=offset).reshape(short.shape)
        assert [integers(modulus, row) for row in modulus.from_short_wire(came, "test")] == kept
    assert modulus.to_short_wire(array[0]).shape == (10 * len(values),)
    assert integers(modulus, modulus.from_short_wire(short[0], "test")) == kept[0]


def test_wires_of_larger_numbers_are_refused() -> None:
    modulus = MODULI[0]
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        wire = np.zeros((1, 2, 4, 6), dtype=np.uint8)
        wire[0, plane, 1] = np.frombuffer((prime - 1).to_bytes(6, "little"), dtype=np.uint8)
        assert modulus.from_wire(wire, "test")[0, plane, 1] == prime - 1
        wire[0, plane, 1] = np.frombuffer(prime.to_bytes(6, "little"), dtype=np.uint8)
        with pytest.raises(ProtocolError, match="test: expected residues below"):
            modulus.from_wire(wire, "test")
    bound = (Q - 1) >> DROPPED_BITS
    largest = modulus.from_short_wire(short_rows([[0, 0, bound]]), "test")
    assert integers(modulus, largest[0])[2] == bound << DROPPED_BITS
    for value in (bound + 1, 2**80 - 1):
        with pytest.raises(ProtocolError, match="test: expected integers below Q"):
            modulus.from_short_wire(short_rows([[0, 0, value]]), "test")


@pytest.mark.parametrize("width", [5, 7, 8, 9, 11])
def test_wires_of_another_width_are_refused(width: int) -> None:
    for read, shape in ((MODULI[0].from_wire, (1, 2, 4, width)), (MODULI[0].from_short_wire, (2, width))):
        for dtype in (np.uint8, np.uint64):
            with pytest.raises(ParameterError, match="expected bytes of shape"):
                read(np.zeros(shape, dtype=dtype), "test")
