"""Exact encryption: against Python's integers; what is returned is exact, and tells nothing of what was done to it."""

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.session.correlations import Correlations
from protocols.arithmetic.residues import DROPPED_BITS, SHORT_BYTES
from protocols.correlations import FixedMask, FixedProduct
from protocols.correlations.two_party import fixed_products
from protocols.encryption.bfv.context import BfvContext, BfvParameters, Wide
from protocols.encryption.bfv.keys import BfvKeys, BfvPublicKey, Seeded
from protocols.encryption.bfv.products import Answerer, ProductShape, ask, read_answers
from protocols.errors import ParameterError, ProtocolError
from support.shares import run_locally
from support.statistics import assert_uniform

WORD = 2**64
EDGES = [0, 1, 2**63 - 1, 2**63, 2**63 + 1, WORD - 1]


@cache
def context() -> BfvContext:
    return BfvContext()


@cache
def keys() -> BfvKeys:
    return BfvKeys(context())


@cache
def public() -> BfvPublicKey:
    return BfvPublicKey(context(), keys().public)


def primes() -> list[int]:
    return [p for plane in context().planes for p in (plane.modulus.p0, plane.modulus.p1)]


def words(seed: int, *shape: int) -> Any:
    drawn = np.random.default_rng(seed).integers(0, WORD, shape, dtype=np.uint64)
    drawn.reshape(-1)[: len(EDGES)] = EDGES[: drawn.size]
    return drawn


def residues_of(integers: list[int]) -> Wide:
    first, second = (
        np.array([[[v % p for v in integers] for p in pair]], dtype=np.uint64) for pair in (primes()[:2], primes()[2:])
    )
    return first, second


def composed(parts: Any, moduli: list[int]) -> list[int]:
    """The integers of residues (n,) modulo each of some primes (Chinese remainder theorem)."""
    total = np.prod(np.array(moduli, dtype=object))
    factors = [total // p * pow(int(total // p), -1, p) for p in moduli]
    columns = zip(*parts, strict=True)
    return [int(sum(int(r) * f for r, f in zip(column, factors, strict=True)) % total) for column in columns]


def big(wide: Wide, index: int = 0) -> list[int]:
    return composed([*wide[0][index], *wide[1][index]], primes())


def phase(c0: list[int], c1: list[int], place: int, modulus: int) -> int:
    """Return a coefficient of c0 + c1 s, by its definition, between -modulus / 2 and modulus / 2."""
    plane, degree = context().planes[0], context().degree
    secret = plane.transform.inverse(keys()._secret[0][None])[0, 0].astype(object)
    secret = [int(s) if s < 2 else -1 for s in secret]
    total = c0[place]
    for i, c in enumerate(c1):
        total += c * (secret[place - i] if i <= place else -secret[degree + place - i])
    return (total + modulus // 2) % modulus - modulus // 2


def test_the_moduli() -> None:
    assert np.prod(np.array(primes(), dtype=object)) == context().modulus
    assert all(p % (2 * context().degree) == 1 for p in primes())
    p0, p1, q0, q1 = primes()
    largest_product = 128 * context().degree * 21 * 2**63
    flooded = (2 ** context().parameters.flood_bits + largest_product) // (q0 * q1)
    noise = flooded + (context().degree + 1) * (2**DROPPED_BITS + 1) + 1
    assert noise < p0 * p1 // 2**65, "what is opened is exact, whatever is multiplied"
    with pytest.raises(ParameterError, match="expected at most 106 bits of modulus for degree 4096 .*, got 186"):
        BfvContext(BfvParameters(degree=4096))


def test_a_message_at_its_scale() -> None:
    numbers = words(0, 1, 40)
    assert big(context().encode(numbers)) == [context().modulus * int(m) // WORD for m in numbers[0]]


def test_division_by_two_primes_and_rounding() -> None:
    modulus, (p0, p1, q0, q1) = context().modulus, primes()
    random = np.random.default_rng(1)
    integers = [int.from_bytes(random.bytes(24)) % modulus for _ in range(500)]
    integers += [0, 1, modulus - 1, q0 * q1, q0 * q1 - 1, (p0 * p1 - 1) * q0 * q1]
    narrow = context().narrow(residues_of(integers))
    found = composed(list(narrow[0]), [p0, p1])
    assert found == [v // (q0 * q1) for v in integers]
    rounded = [(2 * v * WORD + p0 * p1) // (2 * p0 * p1) % WORD for v in found]
    assert context().round(narrow)[0].tolist() == rounded


def test_an_encryption_by_its_definition() -> None:
    message = words(2, 1, context().degree)
    c0, c1 = (
        [plane.transform.inverse(part[:, k]) for part, plane in zip(parts, context().planes, strict=True)]
        for parts in [keys().encrypt(message).components(context())]
        for k in range(2)
    )
    first, second = big((c0[0], c0[1])), big((c1[0], c1[1]))
    noises = set()
    for place in (0, 1, 2, 3, 1000, 4095, 8190, 8191):
        noise = phase(first, second, place, context().modulus) - context().modulus * int(message[0, place]) // WORD
        noises.add((noise + context().modulus // 2) % context().modulus - context().modulus // 2)
    assert max(map(abs, noises)) <= 22
    assert len(noises) > 2, "there is noise"


def multiplied(factors: Any) -> Wide:
    """Encrypt nothing, multiply by factors (t, N), and return the sum of the products."""
    zeros = np.zeros_like(factors)
    inputs = keys().encrypt(zeros).components(context())
    order, bounds = np.arange(len(factors)), np.array([0, len(factors)])
    first, second = (
        plane.modulus.multiply_accumulate(plane.modulus.in_blocks(factor), order, bounds, part)
        for plane, factor, part in zip(context().planes, context().encode_factors(factors), inputs, strict=True)
    )
    return first, second


def hidden(factors: Any, masks: Any, places: Any) -> tuple[Any, Any]:
    """Return what the other party sends of it."""
    return public().hide(multiplied(factors), places, masks)


def nothing(count: int) -> Wide:
    """Blocks of ciphertexts that are zero in every coefficient."""
    first, second = np.zeros((2, count, 2, 2, context().degree), dtype=np.uint64)
    return first, second


def opened_noise(c0: Any, c1: Any, masks: Any) -> Any:
    """How far what is opened lies from the masks (count, N), on the scale that is left after the division."""
    plane, p = context().planes[0], primes()[0] * primes()[1]
    product = plane.modulus.multiply(plane.transform.forward(c1), keys()._secret[0])
    opened = plane.modulus.add(c0, plane.transform.inverse(product))
    noise = []
    for parts, mask in zip(opened, masks, strict=True):
        shifted = zip(composed(parts, primes()[:2]), mask, strict=True)
        noise.append([(v - int(m) * p // WORD + p // 2) % p - p // 2 for v, m in shifted])
    return np.array(noise)


def flood_width() -> int:
    """Of the uniform noise, on the same scale."""
    return 2 ** (context().parameters.flood_bits + 1) // (primes()[2] * primes()[3])


def test_noise_is_drowned_and_c1_is_made_new() -> None:
    """What is opened is off by uniform noise, as wide as it says, also for the largest factors; c1 is uniform."""
    degree = context().degree
    factors, places = words(3, 8, degree), np.arange(degree)
    masks = words(4, 1, degree)
    c0, c1 = hidden(factors, masks, places)
    noise, width = opened_noise(c0, c1, masks)[0], flood_width()
    inside = np.clip(noise + width // 2, 0, width - 1)
    assert np.mean(inside == noise + width // 2) > 0.999, "the ends are as ragged as the rest of the noise"
    assert_uniform(inside, width, 64)
    assert np.abs(noise).max() + 2**21 < 0.94 * primes()[0] * primes()[1] / 2**65
    for r in range(2):
        assert_uniform(c1[0, r], primes()[r], 64)
    zero, _ = hidden(np.zeros_like(factors), masks, places)
    assert not np.array_equal(zero, c0)


def test_flooding_noise_is_as_wide_as_is_promised() -> None:
    """Shifting uniform noise by another number changes its distribution by that number over the width."""
    factors = np.random.default_rng(11).integers(0, WORD, (128, context().degree), dtype=np.uint64)
    first, second = (
        plane.transform.inverse(plane.modulus.add(total[:, 0], plane.modulus.multiply(total[:, 1], secret)))
        for total, plane, secret in zip(multiplied(factors), context().planes, keys()._secret, strict=True)
    )
    modulus = context().modulus
    shift = np.mean([abs((v + modulus // 2) % modulus - modulus // 2) for v in big((first, second))])
    assert 2.0**73 < shift < 2.0 ** (context().parameters.flood_bits + 1 - 47)


def test_every_block_is_hidden_by_itself() -> None:
    degree = context().degree
    masks = np.zeros((3, degree), dtype=np.uint64)
    c0, c1 = public().hide(nothing(3), np.arange(degree), masks)
    noise = opened_noise(c0, c1, masks)
    for i, j in combinations(range(3), 2):
        for r, p in enumerate(primes()[:2]):
            assert_uniform((c1[i, r] + np.uint64(p) - c1[j, r]) % np.uint64(p), p, 64)
        assert_uniform((noise[i] - noise[j]) % flood_width(), flood_width(), 64)


def test_c1_of_nothing_is_uniform_too() -> None:
    """Were c1 not made new, it would be zero for a matrix of zeros, and a public function of any other."""
    _, c1 = hidden(np.zeros((2, context().degree), dtype=np.uint64), words(5, 1, 2), np.arange(2))
    for r in range(2):
        assert_uniform(c1[0, r], primes()[r], 64)


def test_c1_is_made_new_with_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret of zeros what is left of c1 is noise around zero, of which division leaves the sign."""
    monkeypatch.setattr("protocols.encryption.bfv.keys.ternary", lambda shape: np.zeros(shape, dtype=np.int64))
    _, c1 = public().hide(nothing(2), np.arange(2), words(5, 2, 2))
    for block in c1:
        assert set(block[0].tolist()) == {0, primes()[0] - 1}
    assert not np.array_equal(*c1), "every block has noise of its own"


def answered(shape: ProductShape, matrix: Any, vector: Any) -> Any:
    question = ask(shape, keys(), vector)
    answerer = Answerer(shape, context(), public(), question, lambda first, count: matrix[first : first + count])
    shares, opened = [], []
    for first, rows, blocks in shape.parts():
        message, own = answerer.answer(first, rows, blocks)
        assert message.size == SHORT_BYTES * (rows + blocks * shape.degree)
        shares.append(own)
        opened.append(read_answers(shape, context(), keys(), message, rows, blocks))
    return np.concatenate(shares), np.concatenate(opened)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.sampled_from([2, 6, 8, 64, 128]), st.integers(0, 2**32))
def test_products_are_exact(rows: int, dimension: int, seed: int) -> None:
    matrix, vector = words(seed, rows, dimension), words(seed + 1, dimension)
    shape = ProductShape(rows, dimension, context().degree)
    own, opened = answered(shape, matrix, vector)
    assert np.array_equal(own + opened, (matrix * vector).sum(axis=1, dtype=np.uint64))


def test_many_rows_take_other_widths_and_each_share_is_uniform() -> None:
    matrix, vector = words(6, 40_000, 16), words(7, 16)
    matrix[:20_000] = 2**63
    shape = ProductShape(len(matrix), 16, context().degree)
    widths = [ProductShape(n, 128, context().degree).width for n in (1, 1_000, 10_000, 100_000, 1_000_000)]
    assert widths == sorted(widths, reverse=True)
    assert (widths[0], widths[-1]) == (128, 2)
    assert len(list(shape.parts())) > 1
    own, opened = answered(shape, matrix, vector)
    assert np.array_equal(own + opened, (matrix * vector).sum(axis=1, dtype=np.uint64))
    for share in (own, opened):
        assert_uniform(share >> np.uint64(56), 256)


def test_what_is_no_key_or_answer_is_refused() -> None:
    wrong = Seeded(keys().public.seeds, (keys().public.bodies[0][:, :1], keys().public.bodies[1]))
    with pytest.raises(ProtocolError, match="expected a public key"):
        BfvPublicKey(context(), wrong)
    large = np.full((1, 2, context().degree), 2**48, dtype=np.uint64)
    with pytest.raises(ProtocolError, match="expected residues below"):
        BfvPublicKey(context(), Seeded(keys().public.seeds, (large, keys().public.bodies[1])))
    shape = ProductShape(3, 2, context().degree)
    message = np.full(SHORT_BYTES * (3 + shape.degree), 255, dtype=np.uint8)
    with pytest.raises(ProtocolError, match="expected integers below Q"):
        read_answers(shape, context(), keys(), message, 3, 1)


def test_the_widest_rows() -> None:
    dimension = 4 * context().degree
    shape = ProductShape(1, dimension, context().degree)
    assert shape.width <= context().degree
    matrix, vector = words(8, 1, dimension), words(9, dimension)
    matrix[:] = 2**63
    own, opened = answered(shape, matrix, vector)
    assert np.array_equal(own + opened, (matrix * vector).sum(axis=1, dtype=np.uint64))


def test_nothing_random_comes_twice() -> None:
    first, second = (keys().encrypt(np.zeros((1, context().degree), dtype=np.uint64)).seeds for _ in range(2))
    assert len({seed.tobytes() for seed in (*first, *second)}) == 4
    shape, vector = ProductShape(64, 128, context().degree), words(10, 128)
    matrix = np.zeros((64, 128), dtype=np.uint64)
    shares = [answered(shape, matrix, vector)[0] for _ in range(2)]
    assert not set(shares[0].tolist()) & set(shares[1].tolist())


SEEDS = bytes(range(32)), bytes(range(1, 33))
FIRST = 2**50 + 1


def test_correlations_without_a_dealer() -> None:
    requests = [FixedProduct(FIRST, 5_000, 16), FixedProduct(FIRST + 7, 3, 16), FixedProduct(FIRST, 5_000, 16)]

    def side(party: Any) -> Any:
        party.correlations.tell_mask(FixedMask((SEEDS[party.rank],), 16))
        party.correlations.prepare(requests[:2])
        return [party.correlations.take(request) for request in requests]

    client, server = run_locally(side, side, correlations=Correlations.OT)
    vectors = []
    for request, mine, theirs in zip(requests, client, server, strict=True):
        vector, product = (a + b for a, b in zip(mine, theirs, strict=True))
        expected = FixedMask(SEEDS, 16).product(vector, request.first, request.rows)
        assert np.array_equal(product, expected)
        vectors.append(vector.tobytes())
    assert len(set(vectors)) == 3


@pytest.mark.parametrize("what", ["key", "question"])
def test_a_peers_residues_are_checked(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    request = FixedProduct(FIRST, 3, 16)
    exchange = fixed_products.FixedProducts._exchange

    def spoilt(end: Any, label: str, own: Seeded) -> Seeded:
        if label.endswith(what) and end._channel.peer == "client":
            own = Seeded(own.seeds, (own.bodies[0] | np.uint64(2**47), own.bodies[1]))
        return exchange(end, label, own)

    def side(party: Any) -> Any:
        party.correlations.tell_mask(FixedMask((SEEDS[party.rank],), 16))
        return party.correlations.take(request)

    monkeypatch.setattr(fixed_products.FixedProducts, "_exchange", spoilt)
    with pytest.raises(ProtocolError, match="expected residues below"):
        run_locally(side, side, correlations=Correlations.OT)
