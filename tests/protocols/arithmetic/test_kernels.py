"""Every compiled loop against Python's integers, at the edges of what it takes."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic import kernels

P0, P1 = 140737488273409, 70368743669761
PAIRS = [(P0, P1), (2**48 - 59, 2**44 - 17), (2**41 + 27, 2**40 + 15)]
"""SEAL's primes, the largest that are taken, and the smallest (where quotients of 64-bit words are largest)."""

EDGES = [0, 1, 2**24 - 1, 2**24, 2**32 - 1, 2**32, 2**48, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
words = st.integers(0, 2**64 - 1) | st.sampled_from(EDGES)
fast = settings(max_examples=60, deadline=None)
pairs = pytest.mark.parametrize("pair", PAIRS)


def near(p: int, bound: int) -> st.SearchStrategy[int]:
    """Numbers below a bound: any, the edges of the residues, and the neighbours of multiples of p."""
    multiple = st.builds(lambda k, d: min(max(k * p + d, 0), bound - 1), st.integers(0, bound // p), st.integers(-2, 2))
    limbs = [e for e in EDGES if e < bound]
    return st.integers(0, bound - 1) | st.sampled_from([0, 1, p // 2, p - 2, p - 1, *limbs]) | multiple


def residues(pair: tuple[int, int], values: Any) -> Any:
    """Residues (1, 2, n) of integers, by Python."""
    return np.array([[[v % p for v in values] for p in pair]], dtype=np.uint64)


def primes(pair: tuple[int, int]) -> Any:
    return np.array(pair, dtype=np.uint64)


def drawn(data: st.DataObject, pair: tuple[int, int], n: int = 16) -> Any:
    """Residues (1, 2, n): half of them any, half at the edges, which are also the neighbours of multiples of p."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    planes = []
    for p in pair:
        edges = [0, 1, 2, p // 2, p - 2, p - 1, *(edge for edge in EDGES if edge < p)]
        planes.append(np.where(random.random(n) < 0.5, random.integers(0, p, n), random.choice(edges, n)))
    return np.array([planes], dtype=np.uint64)


def by_python(operation: Any, a: Any, b: Any, pair: tuple[int, int]) -> Any:
    return [
        [[operation(x, y) % p for x, y in zip(u, v, strict=True)] for u, v, p in zip(s, t, pair, strict=True)]
        for s, t in zip(a.tolist(), b.tolist(), strict=True)
    ]


@pytest.mark.slow
@pairs
@pytest.mark.parametrize("name", ["add", "subtract", "multiply"])
@given(data=st.data())
@fast
def test_the_element_wise_operations(name: str, pair: tuple[int, int], data: st.DataObject) -> None:
    a, b = drawn(data, pair), drawn(data, pair)
    out = np.empty_like(a)
    getattr(kernels, name)(a, b, primes(pair), out)
    operation = {"add": int.__add__, "subtract": int.__sub__, "multiply": int.__mul__}[name]
    assert out.tolist() == by_python(operation, a, b, pair)


def test_one_factor_for_all() -> None:
    a = np.array([[[2, 3], [5, 7]], [[11, 13], [17, 19]]], dtype=np.uint64)
    out = np.empty_like(a)
    kernels.multiply(a, a[1:], primes(PAIRS[0]), out)
    assert out.tolist() == (a * a[1]).tolist()


@pairs
def test_products_next_to_multiples_of_the_prime(pair: tuple[int, int]) -> None:
    # b = d / a mod p: the products whose estimated quotient is closest to an integer.
    a = np.stack([np.concatenate([np.arange(1, 1500), p - np.arange(1, 1500)]) for p in pair]).astype(np.uint64)[None]
    for remainder in (0, 1, 2, -1, -2):
        b = [[pow(x, -1, p) * remainder % p for x in row] for row, p in zip(a[0].tolist(), pair, strict=True)]
        out = np.empty_like(a)
        kernels.multiply(a, np.array([b], dtype=np.uint64), primes(pair), out)
        for plane, p in enumerate(pair):
            assert (out[0, plane] == remainder % p).all()


def in_blocks(weights: Any, block: int) -> Any:
    """Polynomials (any, 2, n) as the kernel reads them."""
    return weights.reshape(len(weights), 2, weights.shape[2] // block, block).transpose(1, 2, 0, 3).copy()


def accumulated(weights: Any, groups: Any, bounds: Any, inputs: Any, pair: tuple[int, int]) -> Any:
    """The sums of products, by Python."""
    counts, n = inputs.shape[1], inputs.shape[-1]
    w, x = weights.tolist(), inputs.tolist()

    def total(first: int, last: int, q: int, r: int, j: int) -> int:
        return sum(w[k][r][j] * x[groups[k]][q][r][j] for k in range(first, last)) % pair[r]

    return [
        [[[total(*ends, q, r, j) for j in range(n)] for r in range(2)] for q in range(counts)]
        for ends in itertools.pairwise(bounds)
    ]


@pytest.mark.slow
@pairs
@given(data=st.data(), terms=st.integers(0, 6), block=st.sampled_from([1, 2, 4]))
@fast
def test_sums_of_products(pair: tuple[int, int], data: st.DataObject, terms: int, block: int) -> None:
    n = 4
    weights = np.concatenate([np.zeros((0, 2, n), dtype=np.uint64), *(drawn(data, pair, n) for _ in range(terms))])
    inputs = np.stack([np.concatenate([drawn(data, pair, n) for _ in range(2)]) for _ in range(3)])
    groups = np.array(data.draw(st.lists(st.integers(0, 2), min_size=terms, max_size=terms)), dtype=np.int64)
    bounds = sorted(data.draw(st.lists(st.integers(0, terms), min_size=2, max_size=4)))
    out = np.empty((len(bounds) - 1, 2, 2, n), dtype=np.uint64)
    kernels.multiply_accumulate(in_blocks(weights, block), groups, np.array(bounds), inputs, primes(pair), out)
    assert out.tolist() == accumulated(weights, groups.tolist(), bounds, inputs, pair)


@pytest.mark.parametrize("limbs", ["largest", "low", "high", "residues"])
def test_the_largest_number_of_terms_with_the_largest_limbs(limbs: str) -> None:
    pair = PAIRS[1] if limbs == "residues" else (2**48 - 59, 2**48 - 65)
    value = {"largest": 2**48 - 1, "low": 2**24 - 1, "high": (2**24 - 1) << 24}.get(limbs)
    row = [value] * 2 if value is not None else [p - 1 for p in pair]
    weights = np.broadcast_to(np.array(row, dtype=np.uint64)[:, None], (kernels.MAX_TERMS, 2, 3)).copy()
    out = np.empty((1, 1, 2, 3), dtype=np.uint64)
    groups, bounds = np.zeros(kernels.MAX_TERMS, dtype=np.int64), np.array([0, kernels.MAX_TERMS])
    kernels.multiply_accumulate(in_blocks(weights, 3), groups, bounds, weights[None, :1].copy(), primes(pair), out)
    assert out[0].tolist() == [[[kernels.MAX_TERMS * v * v % p] * 3 for v, p in zip(row, pair, strict=True)]]


def test_sums_of_products_of_many_blocks() -> None:
    random, n = np.random.default_rng(0), 3 * kernels.BLOCK
    weights, inputs = (random.integers(0, P1, shape, dtype=np.uint64) for shape in ((3, 2, n), (2, 2, 2, n)))
    out = np.empty((2, 2, 2, n), dtype=np.uint64)
    blocks, groups, bounds = in_blocks(weights, kernels.BLOCK), np.array([1, 0, 1]), np.array([0, 1, 3])
    kernels.multiply_accumulate(blocks, groups, bounds, inputs, primes(PAIRS[0]), out)
    assert out.tolist() == accumulated(weights, [1, 0, 1], [0, 1, 3], inputs, PAIRS[0])


@pairs
@given(data=st.data(), count=st.integers(0, 2), parts=st.integers(1, 2))
@fast
def test_products_with_a_key_are_added(pair: tuple[int, int], data: st.DataObject, count: int, parts: int) -> None:
    n = 4
    nothing = np.zeros((0, 2, n), dtype=np.uint64)
    b = np.concatenate([nothing, *(drawn(data, pair, n) for _ in range(count))])
    key = np.concatenate([drawn(data, pair, n) for _ in range(parts)])
    a = np.concatenate([nothing, *(drawn(data, pair, n) for _ in range(count * parts))]).reshape(count, parts, 2, n)
    expected = [
        [
            [[(x + y * z) % p for x, y, z in zip(*rows, strict=True)] for *rows, p in zip(*planes, pair, strict=True)]
            for planes in ((a[i, q].tolist(), b[i].tolist(), key[q].tolist()) for q in range(parts))
        ]
        for i in range(count)
    ]
    kernels.add_multiplied(a, b, key, primes(pair))
    assert a.tolist() == expected


@pytest.mark.slow
@pairs
@given(data=st.data())
@fast
def test_small_signed_numbers_are_added(pair: tuple[int, int], data: st.DataObject) -> None:
    a, smaller = np.concatenate([drawn(data, pair, 8), drawn(data, pair, 8)]), min(pair) - 1
    a[0, :, :3] = [[0, 0, p - 1] for p in pair]
    small = st.integers(-smaller, smaller) | st.sampled_from([0, 1, -1, 21, -21, smaller, -smaller])
    values = np.array([data.draw(st.lists(small, min_size=8, max_size=8)) for _ in range(2)])
    values[0, :3] = -1, -smaller, 1
    expected = [
        [[(x + v) % p for x, v in zip(row, w, strict=True)] for row, p in zip(planes, pair, strict=True)]
        for planes, w in zip(a.tolist(), values.tolist(), strict=True)
    ]
    kernels.add_small(a, values, primes(pair))
    assert a.tolist() == expected


def kept(words: list[int], prime: int, mask: int, out: Any, plane: int) -> int:
    return int(kernels.keep_below(np.array(words, dtype=np.uint64), np.uint64(prime), np.uint64(mask), plane, out))


@given(
    words=st.lists(words, max_size=24),
    prime=st.sampled_from([3, 2**40 + 15, 2**47 - 115]),
    plane=st.integers(0, 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    strided=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_words_below_the_prime_are_kept(
    words: list[int], prime: int, plane: int, shape: tuple[int, int], strided: bool
) -> None:
    count, n = shape
    mask = 2 ** (prime - 1).bit_length() - 1
    room = np.full((count, 2, 2, n), 9, dtype=np.uint64)
    out = room[:, 1] if strided else np.full((count, 2, n), 9, dtype=np.uint64)
    expected = [v & mask for v in words if v & mask < prime][: count * n]
    assert kept(words, prime, mask, out, plane) == len(expected)
    assert out[:, plane].ravel().tolist()[: len(expected)] == expected
    assert (out[:, 1 - plane] == 9).all()
    assert (room[:, 0] == 9).all()


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("spare", [0, 1, 5])
@pytest.mark.parametrize("rejected", [None, 0, 1, 5, 6, 10])
def test_rejected_words_are_skipped_and_spare_ones_left(strided: bool, spare: int, rejected: int | None) -> None:
    """Words of which none is rejected take a short cut, which must give the same; the mask may make a word small."""
    prime, mask = 5, 7
    words = [8 * i + i % prime for i in range(6 + spare)]
    if rejected is not None:
        words.insert(rejected, 8 * 3 + prime)
    room = np.zeros((2, 2, 2, 3), dtype=np.uint64)
    out = room[:, 0] if strided else np.zeros((2, 2, 3), dtype=np.uint64)
    assert kept(words, prime, mask, out, 1) == 6
    assert out[:, 1].ravel().tolist() == [0, 1, 2, 3, 4, 0]
    assert not out[:, 0].any()


def test_too_few_words_are_counted() -> None:
    out = np.zeros((1, 2, 4), dtype=np.uint64)
    assert kept([1, 2, 3], 5, 7, out, 0) == 3
    assert kept([1, 7, 2, 6, 3], 5, 7, out, 0) == 3
    assert kept([], 5, 7, out, 0) == 0


@pytest.mark.slow
@pairs
@given(data=st.data(), scale=st.integers(0, 2**40 - 1), offset=st.integers(-(2**70), 2**70))
@fast
def test_lift(pair: tuple[int, int], data: st.DataObject, scale: int, offset: int) -> None:
    values = data.draw(st.lists(near(pair[0], 2**64) | near(pair[1], 2**64), min_size=1, max_size=8)) + EDGES
    out = np.empty((1, 2, len(values)), dtype=np.uint64)
    scales, offsets = residues(pair, [scale])[0, :, 0], residues(pair, [offset])[0, :, 0]
    kernels.lift(np.array([values], dtype=np.uint64), primes(pair), scales, offsets, out)
    assert (out == residues(pair, [(v + offset) * scale for v in values])).all()


@pytest.mark.slow
@pairs
@given(data=st.data(), scale=st.integers(0, 2**40 - 1))
@fast
def test_lift_of_signed_numbers(pair: tuple[int, int], data: st.DataObject, scale: int) -> None:
    magnitudes = near(pair[0], 2**63) | near(pair[1], 2**63)
    values = data.draw(st.lists(magnitudes | magnitudes.map(int.__neg__), min_size=1, max_size=8))
    values += [0, -1, -(2**63), 2**63 - 1, *(s * k * p for p in pair for k in (1, 2**63 // p) for s in (1, -1))]
    out = np.empty((1, 2, len(values)), dtype=np.uint64)
    kernels.lift_signed(np.array([values], dtype=np.int64), primes(pair), residues(pair, [scale])[0, :, 0], out)
    assert (out == residues(pair, [v * scale for v in values])).all()


def composed(pair: tuple[int, int]) -> st.SearchStrategy[int]:
    """Integers below Q: any, and those at the borders of the two words and of the primes."""
    q = pair[0] * pair[1]
    borders = [0, 2**13, 2**64, 2**64 + 2**13, q - 1, q // 2, pair[0], q - pair[0], 2**64 - pair[0]]
    return (
        st.integers(0, q - 1)
        | near(pair[0], q)
        | st.builds(lambda b, d: min(max(b + d, 0), q - 1), st.sampled_from(borders), st.integers(-2, 2))
    )


def inverse(pair: tuple[int, int]) -> np.uint64:
    return np.uint64(pow(pair[0], -1, pair[1]))


@pytest.mark.slow
@pairs
@given(data=st.data(), bits=st.integers(1, 63))
@fast
def test_shift_right(pair: tuple[int, int], data: st.DataObject, bits: int) -> None:
    values = data.draw(st.lists(composed(pair), min_size=4, max_size=12))
    out = np.empty((1, len(values)), dtype=np.uint64)
    kernels.shift_right(residues(pair, values), primes(pair), inverse(pair), np.uint64(bits), out)
    assert out[0].tolist() == [(v >> bits) % 2**64 for v in values]


def words_of(values: Any) -> Any:
    """The words of six bytes each, by Python."""
    return np.frombuffer(b"".join(int(v).to_bytes(6, "little") for v in values), dtype=np.uint64)


@pairs
@given(data=st.data(), count=st.integers(1, 3))
@fast
def test_six_bytes_there_and_back(pair: tuple[int, int], data: st.DataObject, count: int) -> None:
    values = np.concatenate([drawn(data, pair, 8) for _ in range(count)])
    wire = np.empty(3 * values.size // 4, dtype=np.uint64)
    kernels.to_wire(values.reshape(-1), wire)
    assert (wire == words_of(values.ravel())).all()
    room = np.zeros((count, 2, 2, 8), dtype=np.uint64)
    for out in (np.empty_like(values), room[:, 1]):
        assert kernels.from_wire(wire, primes(pair), out)
        assert (out == values).all()
    assert not room[:, 0].any()


@pairs
@given(plane=st.integers(0, 1), item=st.integers(0, 1), place=st.integers(0, 7), data=st.data())
@fast
def test_six_bytes_are_refused_from_the_prime_on(
    pair: tuple[int, int], plane: int, item: int, place: int, data: st.DataObject
) -> None:
    p = pair[plane]
    value = data.draw(st.sampled_from([p - 1, p, p + 1, 2**48 - 1]) | st.integers(0, 2**48 - 1))
    values, out = np.zeros((2, 2, 8), dtype=np.uint64), np.empty((2, 2, 8), dtype=np.uint64)
    values[item, plane, place] = value
    assert bool(kernels.from_wire(words_of(values.ravel()), primes(pair), out)) == (value < p)


def split(values: list[int]) -> tuple[Any, Any]:
    """The low words and the high words of integers below 2^80, (1, n)."""
    low, high = ([v % 2**64 for v in values], [v >> 64 for v in values])
    return np.array([low], dtype=np.uint64), np.array([high], dtype=np.uint16)


def read_short(pair: tuple[int, int], dropped: int, values: list[int]) -> tuple[bool, Any]:
    """Read the integers' words for a pair of primes as `CrtModulus` does."""
    bound = (pair[0] * pair[1] - 1) >> dropped
    scales = [residues(pair, [1 << bits])[0, :, 0] for bits in (dropped, dropped + 64)]
    limits = np.uint64(bound >> 64), np.uint64(bound % 2**64)
    out = np.empty((1, 2, len(values)), dtype=np.uint64)
    return bool(kernels.from_short_wire(*split(values), primes(pair), *scales, *limits, out)), out


@pytest.mark.slow
@pairs
@given(data=st.data(), dropped=st.integers(13, 20))
@fast
def test_two_words_there_and_back_without_the_low_bits(
    pair: tuple[int, int], data: st.DataObject, dropped: int
) -> None:
    values = data.draw(st.lists(composed(pair), min_size=3, max_size=9))
    low, high = np.empty((1, len(values)), dtype=np.uint64), np.empty((1, len(values)), dtype=np.uint16)
    kernels.to_short_wire(residues(pair, values), primes(pair), inverse(pair), dropped, low, high)
    kept = [v >> dropped for v in values]
    for came, expected in zip((low, high), split(kept), strict=True):
        assert (came == expected).all()
    valid, out = read_short(pair, dropped, kept)
    assert valid
    assert (out == residues(pair, [v << dropped for v in kept])).all()


@pairs
@given(data=st.data(), place=st.integers(0, 4))
@fast
def test_two_words_are_refused_from_the_modulus_on(pair: tuple[int, int], data: st.DataObject, place: int) -> None:
    bound = (pair[0] * pair[1] - 1) >> 13
    words_of_the_bound = [bound - 1, bound, bound + 1, bound + 2**64, bound - 2**64, bound | (2**64 - 1), 2**80 - 1]
    value = data.draw(st.sampled_from([v for v in words_of_the_bound if 0 <= v < 2**80]) | st.integers(0, 2**80 - 1))
    values = [0] * 5
    values[place] = value
    assert read_short(pair, 13, values)[0] == (value <= bound)
