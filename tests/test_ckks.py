"""Keys, noise and polynomials: SEAL's containers hold what we put in, and encryptions are fresh and small."""

import hashlib
from typing import Any

import numpy as np
import pytest
from helpers import assert_uniform
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.ckks import (
    CkksContext,
    CkksParameters,
    ClientKeys,
    PublicKey,
    centred_binomial,
    check_residues,
    expand_seed,
    in_containers,
)
from protocols.errors import ParameterError, ProtocolError
from protocols.ring import CrtModulus

N = 4096


def decrypt(keys: ClientKeys, ciphertext: Any) -> Any:
    """Return c0 + c1 s as signed integers; both residues must tell of the same small number."""
    modulus = keys.context.modulus
    opened = modulus.add(ciphertext[0], keys.multiply_by_secret(ciphertext[1][None])[0]).astype(np.int64)
    primes = modulus.primes.astype(np.int64)
    signed = np.where(opened > primes // 2, opened - primes, opened)
    assert (signed[0] == signed[1]).all()
    return signed[0]


def random_residues(context: CkksContext, count: int, seed: int = 0) -> Any:
    primes = context.modulus.primes
    return np.random.default_rng(seed).integers(0, primes, (count, 2, N), dtype=np.uint64)


def encryption_of_zero(keys: ClientKeys) -> Any:
    """A seeded encryption of zero, expanded: residues (2, 2, N)."""
    (zero,) = keys.encrypt_zeros(1)
    return np.stack([zero.c0, expand_seed(zero.seed, keys.context.modulus, N)])


def test_seeds_expand_alike_and_never_twice_the_same(keys: ClientKeys) -> None:
    modulus = keys.context.modulus
    zeros = keys.encrypt_zeros(20)
    assert len(zeros) == len({zero.seed for zero in zeros}) == 20
    first, again = (expand_seed(zeros[0].seed, modulus, N) for _ in range(2))
    assert (first == again).all()
    assert (first < modulus.primes).all()
    assert (first != expand_seed(zeros[1].seed, modulus, N)).mean() > 0.99


def test_a_seed_expands_to_shake_128_with_rejection() -> None:
    """Independently, by Python integers, with primes of which about half of all tries are rejected."""
    modulus = CrtModulus(2**40 + 15, 2**33 + 17)
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        stream = hashlib.shake_128(bytes(32) + bytes([plane])).digest(6 * 200)
        tries = [int.from_bytes(stream[i : i + 6], "little") % 2 ** prime.bit_length() for i in range(0, 1200, 6)]
        expected = [value for value in tries if value < prime][:50]
        assert expand_seed(bytes(32), modulus, 50)[plane].tolist() == expected


def test_noise_is_centred_binomial() -> None:
    noise = centred_binomial((1 << 18,))
    assert np.abs(noise).max() <= 21
    assert abs(noise.std() - 10.5**0.5) < 0.02
    assert abs(noise.mean()) < 0.03


def test_a_fresh_symmetric_encryption_of_zero_has_the_stated_noise(keys: ClientKeys) -> None:
    noise = np.stack([decrypt(keys, encryption_of_zero(keys)) for _ in range(4)])
    assert np.abs(noise).max() <= 21  # a centred binomial of 21 coins
    assert 3.1 < noise.std() < 3.4
    assert abs(noise.mean()) < 0.2


@pytest.mark.parametrize("count", [1, 2, 8])
def test_public_key_encryptions_decrypt_to_small_noise(keys: ClientKeys, public_key: PublicKey, count: int) -> None:
    context = public_key.context
    container = public_key.encrypt_zeros(count)
    context.evaluator.transform_from_ntt_inplace(container)
    residues = context.read(container).reshape(count, 2, 2, N)
    noise = np.stack([decrypt(keys, ciphertext) for ciphertext in residues])
    assert 1 < np.abs(noise).max() < 2**9
    assert len({row.tobytes() for row in noise}) == count
    assert len({ciphertext[1].tobytes() for ciphertext in residues}) == count


def test_encryptions_are_fresh_and_uniform_in_both_polynomials(keys: ClientKeys) -> None:
    ciphertexts = np.stack([encryption_of_zero(keys) for _ in range(6)])
    for plane, prime in enumerate((keys.context.modulus.p0, keys.context.modulus.p1)):
        for part in (0, 1):
            values = ciphertexts[:, part, plane]
            assert_uniform(values, prime, bins=64)
            assert len(np.unique(values)) > 0.999 * values.size


def test_another_key_does_not_decrypt(keys: ClientKeys) -> None:
    other = ClientKeys(CkksContext())
    ciphertext = encryption_of_zero(keys)
    opened = keys.context.modulus.add(ciphertext[0], other.multiply_by_secret(ciphertext[1][None])[0])
    assert_uniform(opened[0], keys.context.modulus.p0, bins=16)


@pytest.mark.parametrize("count", [2, 3, 15, 16])
@pytest.mark.parametrize("ntt", [False, True])
def test_a_container_holds_what_was_loaded(context: CkksContext, count: int, ntt: bool) -> None:
    residues = random_residues(context, count)
    ciphertext = context.load(residues, ntt)
    assert (ciphertext.size(), ciphertext.is_ntt_form()) == (count, ntt)
    assert (context.read(ciphertext) == residues).all()


def test_a_container_takes_the_largest_residues_and_no_larger(context: CkksContext) -> None:
    largest = np.broadcast_to(context.modulus.primes - np.uint64(1), (2, 2, N)).copy()
    assert (context.read(context.load(largest, ntt=False)) == largest).all()
    with pytest.raises((ValueError, RuntimeError)):
        context.load(largest + np.uint64(1), ntt=False)


@pytest.mark.parametrize("shape", [(1, 2, N), (17, 2, N), (2, 3, N), (2, 2, N // 2), (2, 2 * N)])
def test_a_container_refuses_other_shapes(context: CkksContext, shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="expected residues of shape"):
        context.load(np.zeros(shape, dtype=np.uint64), ntt=False)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 33])
def test_the_transform_and_its_inverse(context: CkksContext, count: int) -> None:
    residues = random_residues(context, count)
    transformed = context.to_ntt(residues)
    assert transformed.shape == residues.shape
    assert not (transformed == residues).all()
    assert (context.from_ntt(transformed) == residues).all()


@pytest.mark.parametrize(("count", "runs"), [(0, []), (1, [2]), (16, [16]), (17, [16, 2]), (35, [16, 16, 3])])
def test_runs_of_at_most_sixteen(count: int, runs: list[int]) -> None:
    polynomials = np.arange(count)[:, None]
    cut = in_containers(polynomials)
    assert [len(run) for run in cut] == runs
    assert np.concatenate([*cut, np.zeros((0, 1), dtype=int)])[:count].ravel().tolist() == list(range(count))


@given(st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, 2**30)), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_a_product_with_an_encoded_plaintext_is_negacyclic(terms: list[tuple[int, int]]) -> None:
    context = CkksContext()
    weight = np.zeros((1, N), dtype=np.int64)
    for position, value in terms:
        weight[0, position] = value if position % 2 else -value
    polynomial = np.zeros((2, N), dtype=np.int64)
    polynomial[0, N - 1] = 3  # 3 X^(N-1): every product but the constant's wraps around with a minus sign
    polynomial[1, 0] = 5
    ciphertext = context.load(context.to_ntt(context.modulus.lift_signed(polynomial)), ntt=True)
    context.evaluator.multiply_plain_inplace(ciphertext, context.encode_plaintexts(weight)[0])
    context.evaluator.transform_from_ntt_inplace(ciphertext)
    wrapped = np.append(-weight[0, 1:], weight[0, 0])
    expected = context.modulus.lift_signed(np.stack([3 * wrapped, 5 * weight[0]]))
    assert (context.read(ciphertext) == expected).all()


@pytest.mark.parametrize("count", [1, 5, 17])
def test_the_client_multiplies_any_number_of_polynomials(keys: ClientKeys, count: int) -> None:
    polynomials = random_residues(keys.context, count)
    together = keys.multiply_by_secret(polynomials)
    assert together.shape == polynomials.shape
    assert (together[-1] == keys.multiply_by_secret(polynomials[-1:])[0]).all()


def test_the_public_key_is_an_encryption_of_zero_and_says_nothing_of_the_secret(keys: ClientKeys) -> None:
    polynomials = keys.public_key()
    assert polynomials.shape == (2, 3, N)
    assert_uniform(polynomials[:, 0], keys.context.modulus.p0, bins=32)
    coefficients = keys.context.from_ntt(polynomials[:, :2])
    assert np.abs(decrypt(keys, coefficients)).max() <= 21


@pytest.mark.parametrize("shape", [(2, 3, N), (2, 2, N), (2, 3, N // 2), (3, 3, N), (0,)])
def test_garbage_is_no_public_key(context: CkksContext, shape: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError, match="public key is not valid") as caught:
        PublicKey(context, np.full(shape, 2**63, dtype=np.uint64))
    assert "\n" not in str(caught.value)


def test_one_residue_too_large_is_no_public_key(context: CkksContext, keys: ClientKeys) -> None:
    polynomials = keys.public_key().copy()
    polynomials[1, 0, 17] = context.modulus.p0
    with pytest.raises(ProtocolError, match="public key is not valid"):
        PublicKey(context, polynomials)


@pytest.mark.parametrize("count", [9, 17])
def test_a_container_holds_at_most_eight_encryptions(public_key: PublicKey, count: int) -> None:
    with pytest.raises(ParameterError):
        public_key.encrypt_zeros(count)


@pytest.mark.parametrize(
    "parameters",
    [
        CkksParameters(prime_bits=(47, 46, 17)),  # 110 bits at N = 4096 is under 128-bit security
        CkksParameters(prime_bits=(47, 47, 16)),
        CkksParameters(degree=2048),
        CkksParameters(degree=1000),
        CkksParameters(prime_bits=(61, 30, 8)),
        CkksParameters(prime_bits=(46, 47, 16)),  # p1 < p0 is needed
        CkksParameters(prime_bits=(50, 40, 19)),  # a residue would not travel in six bytes
    ],
)
def test_weak_or_impossible_parameters_are_refused(parameters: CkksParameters) -> None:
    with pytest.raises(ParameterError):
        CkksContext(parameters)


def test_the_default_parameters_are_those_of_the_documentation(context: CkksContext) -> None:
    total = context.seal.key_context_data().total_coeff_modulus_bit_count()
    assert total <= 109
    assert context.degree == N
    assert 2**92 < context.modulus.p0 * context.modulus.p1 < 2**93


def test_residues_are_checked_against_both_primes(context: CkksContext) -> None:
    modulus = context.modulus
    good = np.broadcast_to(modulus.primes - np.uint64(1), (3, 2, 5)).copy()
    assert check_residues(good, modulus, "test") is good
    for plane in (0, 1):
        bad = good.copy()
        bad[2, plane, 4] += np.uint64(1)
        with pytest.raises(ProtocolError, match="test: expected residues below"):
            check_residues(bad, modulus, "test")
