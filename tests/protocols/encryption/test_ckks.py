"""Keys, noise and encryptions: SEAL opens what we encrypt and we open what SEAL does, and each is fresh and small."""

import itertools
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from protocols.arithmetic.residues import CrtModulus
from protocols.encryption.ckks import (
    CkksContext,
    CkksParameters,
    ClientKeys,
    PublicKey,
    centred_binomial,
    check_residues,
    expand_seed,
    ternary,
)
from protocols.errors import ParameterError, ProtocolError
from support.reach import reachable
from support.residues import centred, integers
from support.seal_reference import SealReference
from support.statistics import assert_uniform

N = 4096
SIGMA = 10.5**0.5


def random_residues(context: CkksContext, shape: tuple[int, ...], seed: int = 0) -> Any:
    bounds = context.modulus.primes[:, None]
    return np.random.default_rng(seed).integers(0, bounds, (*shape, 2, N), dtype=np.uint64)


def encrypted(keys: ClientKeys, messages: Any) -> Any:
    """Return ciphertexts (count, 2, 2, N) in NTT form of polynomials (count, 2, N)."""
    seed, bodies = keys.encrypt(messages)
    return np.stack([bodies, keys.context.expand(seed, len(bodies))], axis=1)


def zeros(keys: ClientKeys, count: int) -> Any:
    return encrypted(keys, np.zeros((count, 2, N), dtype=np.uint64))


def decrypted(keys: ClientKeys, ciphertexts: Any) -> Any:
    """Open ciphertexts (count, 2, 2, N) in coefficient form, by our own product with the secret."""
    modulus = keys.context.modulus
    opened = modulus.add(ciphertexts[:, 0], keys.multiply_by_secret(np.ascontiguousarray(ciphertexts[:, 1])))
    return np.stack([centred(modulus, polynomial) for polynomial in opened])


def coefficients(context: CkksContext, ciphertexts: Any) -> Any:
    return context.transform.inverse(ciphertexts.reshape(-1, 2, N)).reshape(ciphertexts.shape)


def assert_centred_binomial(noise: Any) -> None:
    """Chi-squared test against 42 fair coins, less 21."""
    values = np.arange(-8, 9)
    expected = stats.binom.pmf(values + 21, 42, 0.5) * np.size(noise)
    counts = (np.asarray(noise).ravel()[:, None] == values).sum(axis=0)
    rest = np.size(noise) - counts.sum(), np.size(noise) - expected.sum()
    assert stats.chisquare([*counts, rest[0]], [*expected, rest[1]]).pvalue > 1e-7
    assert np.abs(noise).max() <= 21


def test_seal_opens_what_we_encrypt(keys: ClientKeys, reference: SealReference) -> None:
    modulus = keys.context.modulus
    messages = random_residues(keys.context, (3,))
    noise = [
        centred(modulus, modulus.subtract(reference.decrypt(ciphertext), message))
        for ciphertext, message in zip(encrypted(keys, messages), messages, strict=True)
    ]
    assert_centred_binomial(np.stack(noise))
    assert abs(np.corrcoef(np.stack(noise))[0, 1]) < 0.1


@pytest.mark.parametrize("symmetric", [True, False])
def test_we_open_what_seal_encrypts(keys: ClientKeys, reference: SealReference, symmetric: bool) -> None:
    theirs = np.stack([reference.encrypt_zero(symmetric) for _ in range(3)])
    noise = decrypted(keys, coefficients(keys.context, theirs))
    assert (noise[0] == centred(keys.context.modulus, reference.decrypt(theirs[0]))).all()
    if symmetric:
        assert_centred_binomial(noise)
    else:
        # e0 + e1 s + e u, less SEAL's special prime, which takes the noise down to that of a rounding.
        assert 1 < noise.std() < 200


def test_seal_opens_what_the_server_rerandomises(
    keys: ClientKeys, public_key: PublicKey, reference: SealReference
) -> None:
    modulus, message = keys.context.modulus, random_residues(keys.context, (1,))
    fresh = public_key.rerandomise(encrypted(keys, message))
    values = keys.context.transform.forward(fresh.reshape(-1, 2, N)).reshape(fresh.shape)
    noise = centred(modulus, modulus.subtract(reference.decrypt(values[0]), message[0]))
    assert np.abs(noise).max() < 2**11, "8.5 deviations"


def test_our_sum_of_products_is_seals(keys: ClientKeys, reference: SealReference) -> None:
    context, terms = keys.context, 7
    random = np.random.default_rng(3)
    weights = context.encode(random.integers(-(2**30), 2**30, (terms, N)))
    weights[0] = context.modulus.primes[:, None] - np.uint64(1)
    ciphertexts = zeros(keys, 3)
    ciphertexts[2] = context.modulus.primes[:, None] - np.uint64(1)
    groups = np.array([0, 1, 2, 2, 0, 1, 1])
    bounds = np.array([0, 3, terms])
    ours = context.modulus.multiply_accumulate(context.modulus.in_blocks(weights), groups, bounds, ciphertexts)
    for total, terms_of in zip(ours, (slice(0, 3), slice(3, terms)), strict=True):
        assert (total == reference.multiply_accumulate(weights[terms_of], ciphertexts[groups[terms_of]])).all()


def test_a_product_with_a_weight_polynomial_multiplies_the_message(keys: ClientKeys) -> None:
    context = keys.context
    message, weight = np.zeros((1, N), dtype=np.int64), np.zeros((1, N), dtype=np.int64)
    message[0, [0, N - 1]], weight[0, [1, 5]] = [2**50, -(2**49)], [3, -7]
    ciphertext = encrypted(keys, context.modulus.lift_signed(message))
    product = context.modulus.multiply(ciphertext[0], context.encode(weight)[0])
    opened = decrypted(keys, coefficients(context, product[None]))[0]
    expected = np.zeros(N, dtype=np.int64)
    expected[[1, 5, 0, 4]] = [3 * 2**50, -7 * 2**50, 3 * 2**49, -7 * 2**49]
    assert np.abs(opened - expected).max() <= 10 * 21


def test_the_noise_of_an_encryption_is_centred_binomial(keys: ClientKeys) -> None:
    assert_centred_binomial(decrypted(keys, coefficients(keys.context, zeros(keys, 16))))


def test_the_noise_of_rerandomising_has_the_stated_size(keys: ClientKeys, public_key: PublicKey) -> None:
    """e0 + e1 s + e u: of deviation 3.24 times the root of 1 + two thirds of N, twice."""
    nothing = np.zeros((12, 2, 2, N), dtype=np.uint64)
    noise = decrypted(keys, public_key.rerandomise(nothing))
    expected = SIGMA * (1 + 4 * N / 3) ** 0.5
    assert abs(noise.std() / expected - 1) < 0.1
    assert np.abs(noise).max() < 8 * expected
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.1


def test_rerandomising_keeps_the_message_and_hides_c1(keys: ClientKeys, public_key: PublicKey) -> None:
    context = public_key.context
    messages = np.random.default_rng(1).integers(-(2**60), 2**60, (2, N))
    ciphertexts = encrypted(keys, context.modulus.lift_signed(messages))
    overwritten = ciphertexts.copy()
    fresh, again = public_key.rerandomise(overwritten), public_key.rerandomise(ciphertexts.copy())
    assert fresh is overwritten
    for result in (fresh, again):
        assert np.abs(decrypted(keys, result) - messages).max() < 2**11
    added = context.modulus.subtract(fresh, coefficients(context, ciphertexts))
    for plane, prime in enumerate((context.modulus.p0, context.modulus.p1)):
        for part in (0, 1):
            assert_uniform(added[:, part, plane], prime, bins=64)
    assert not (fresh == again).all(axis=2).any()


def test_the_encryption_of_zero_is_that_of_the_textbook(
    keys: ClientKeys, public_key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the random polynomials fixed, (b u + e0, a u + e1), by the schoolbook in one variable."""
    context = public_key.context
    modulus, key = context.modulus, coefficients(context, keys.public_key())
    u, noise = np.zeros((1, N), dtype=np.int64), np.arange(2 * N).reshape(2, N) % 7 - 3
    u[0, [0, 3, N - 1]] = [1, -1, 1]
    monkeypatch.setattr("protocols.encryption.ckks.ternary", lambda shape: u)
    monkeypatch.setattr("protocols.encryption.ckks.centred_binomial", lambda shape: noise)
    came = public_key.rerandomise(np.zeros((1, 2, 2, N), dtype=np.uint64))[0]
    for part in (0, 1):
        row = integers(modulus, key[part])
        q = modulus.p0 * modulus.p1
        by_3 = [-v for v in row[N - 3 :]] + row[: N - 3]
        by_last = [-v for v in row[1:]] + row[:1]
        e = noise[part].tolist()
        expected = [(a - b + c + d) % q for a, b, c, d in zip(row, by_3, by_last, e, strict=True)]
        assert integers(modulus, came[part]) == expected


def test_encryptions_are_fresh_and_uniform_in_both_polynomials(keys: ClientKeys) -> None:
    ciphertexts = zeros(keys, 6)
    for plane, prime in enumerate((keys.context.modulus.p0, keys.context.modulus.p1)):
        for part in (0, 1):
            values = ciphertexts[:, part, plane]
            assert_uniform(values, prime, bins=64)
            assert len(np.unique(values)) > 0.999 * values.size


def test_another_key_does_not_decrypt(keys: ClientKeys) -> None:
    other, modulus = ClientKeys(CkksContext()), keys.context.modulus
    ciphertexts = coefficients(keys.context, zeros(keys, 2))
    opened = modulus.add(ciphertexts[:, 0], other.multiply_by_secret(ciphertexts[:, 1]))
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        assert_uniform(opened[:, plane], prime, bins=16)


def test_the_secret_is_ternary_and_uniform(keys: ClientKeys) -> None:
    one = np.zeros((1, 2, N), dtype=np.uint64)
    one[0, :, 0] = 1
    assert_uniform(centred(keys.context.modulus, keys.multiply_by_secret(one)[0]) + 1, 3)


@pytest.mark.parametrize("count", [0, 1, 5, 17])
def test_the_client_multiplies_any_number_of_polynomials(keys: ClientKeys, count: int) -> None:
    polynomials = random_residues(keys.context, (count,))
    together = keys.multiply_by_secret(polynomials)
    assert together.shape == polynomials.shape
    for i in range(count):
        assert (together[i] == keys.multiply_by_secret(polynomials[i : i + 1])[0]).all()


def test_seeds_never_come_twice(keys: ClientKeys) -> None:
    """A seed for every upload, and of its polynomials none is another."""
    nothing = np.zeros((4, 2, N), dtype=np.uint64)
    uploads = [keys.encrypt(nothing) for _ in range(20)]
    seeds = [seed for seed, _ in uploads]
    assert {len(seed) for seed in seeds} == {32}
    assert len(set(seeds)) == 20
    expanded = np.concatenate([keys.context.expand(seed, 4) for seed in seeds[:3]])
    assert len(np.unique(expanded[:, 0])) > 0.999 * 12 * N
    for plane, prime in enumerate((keys.context.modulus.p0, keys.context.modulus.p1)):
        assert (expanded[:, plane] < prime).all()
        assert_uniform(expanded[:, plane], prime, bins=128)
    for (seed, bodies), other in itertools.pairwise(uploads[:4]):
        noise = decrypted(keys, coefficients(keys.context, np.stack([bodies, keys.context.expand(seed, 4)], axis=1)))
        assert_centred_binomial(noise)
        assert (bodies != other[1]).mean() > 0.99


def test_messages_are_left_as_they_were(keys: ClientKeys) -> None:
    messages = random_residues(keys.context, (2,))
    before = messages.copy()
    keys.encrypt(messages)
    assert (messages == before).all()


@pytest.mark.parametrize("primes", [(2**41 + 27, 2**40 + 15), (140737488273409, 70368743669761)])
def test_a_seed_expands_to_aes_in_counter_mode_with_rejection(primes: tuple[int, int]) -> None:
    """Independently, by Python integers, with primes of which about half of all tries are rejected, and SEAL's."""
    modulus, seed = CrtModulus(*primes), bytes(range(32))
    ecb = Cipher(algorithms.AES(seed), modes.ECB()).encryptor()  # noqa: S305 (the definition of counter mode)
    strided = np.full((3, 2, 2, 16), 7, dtype=np.uint64)
    expanded = expand_seed(seed, modulus, 16, 3)
    assert expand_seed(seed, modulus, 16, 3, out=strided[:, 1]).base is strided
    assert (strided[:, 1] == expanded).all()
    assert (strided[:, 0] == 7).all()
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        stream = b"".join(ecb.update(bytes([plane]) + i.to_bytes(15, "big")) for i in range(100))
        mask = 2 ** (prime - 1).bit_length() - 1
        tries = [int.from_bytes(stream[i : i + 8], "little") & mask for i in range(0, 1600, 8)]
        expected = [value for value in tries if value < prime][:48]
        assert len(expected) == 48
        assert expanded[:, plane].ravel().tolist() == expected
        assert expand_seed(seed, modulus, 48)[0, plane].tolist() == expected


def test_every_32_polynomials_of_a_seed_have_a_keystream_of_their_own() -> None:
    """More than a chunk: the first bytes of the counter are the prime's number and the chunk's."""
    modulus, seed, degree = CrtModulus(2**41 + 27, 2**40 + 15), bytes(range(32)), 16
    expanded = expand_seed(seed, modulus, degree, 70)
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        mask = 2 ** (prime - 1).bit_length() - 1
        for chunk, part in enumerate((slice(0, 32), slice(32, 64), slice(64, 70))):
            counter = bytes([plane]) + chunk.to_bytes(7, "big") + bytes(8)
            stream = Cipher(algorithms.AES(seed), modes.CTR(counter)).encryptor().update(bytes(8 * 2000))
            tries = [int.from_bytes(stream[i : i + 8], "little") & mask for i in range(0, len(stream), 8)]
            expected = [value for value in tries if value < prime][: expanded[part, plane].size]
            assert expanded[part, plane].ravel().tolist() == expected


@pytest.mark.parametrize(("shape", "dtype"), [((3, 2, 8), np.uint64), ((2, 16), np.uint64), ((2, 2, 16), np.int64)])
def test_a_seed_is_not_expanded_into_other_room(shape: tuple[int, ...], dtype: Any) -> None:
    with pytest.raises(ParameterError, match="expected room"):
        expand_seed(bytes(32), CrtModulus(2**41 + 27, 2**40 + 15), 16, 2, out=np.zeros(shape, dtype=dtype))


def test_noise_is_centred_binomial_and_never_the_same() -> None:
    noise = centred_binomial((4, 1 << 16))
    assert_centred_binomial(noise)
    assert (noise[0] == noise[1]).mean() < 0.2


def test_ternary_is_uniform_and_never_the_same() -> None:
    drawn = ternary((3, 1 << 16))
    assert drawn.shape == (3, 1 << 16)
    assert_uniform(drawn + 1, 3)
    assert_uniform(3 * (drawn[0] + 1) + drawn[1] + 1, 9)
    assert_uniform(3 * (drawn[:, ::2] + 1) + drawn[:, 1::2] + 1, 9)
    assert ternary((1,)).shape == (1,)


def test_bytes_that_would_bias_ternary_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [np.full(2, 2**64 - 1, dtype=np.uint64), np.arange(16, dtype=np.uint8).view(np.uint64)]
    monkeypatch.setattr("protocols.encryption.ckks.random_words", lambda count: draws.pop(0))
    assert ternary((5,)).tolist() == [-1, 0, 1, -1, 0]


def test_the_public_key_is_an_encryption_of_zero_and_says_nothing_of_the_secret(keys: ClientKeys) -> None:
    polynomials = keys.public_key()
    assert polynomials.shape == (2, 2, N)
    for plane, prime in enumerate((keys.context.modulus.p0, keys.context.modulus.p1)):
        assert_uniform(polynomials[:, plane], prime, bins=32)
    noise = decrypted(keys, coefficients(keys.context, polynomials[None]))
    assert_centred_binomial(noise)


def test_the_public_key_object_holds_no_secret(keys: ClientKeys, public_key: PublicKey) -> None:
    def held(*roots: Any) -> list[Any]:
        secret = keys._secret.tobytes()
        return [v for v in reachable(*roots) if isinstance(v, np.ndarray) and secret in v.tobytes()]

    assert held(keys)
    assert not held(public_key)
    assert not [v for v in reachable(public_key) if v is keys or v is keys.context]


@pytest.mark.parametrize("shape", [(2, 3, N), (2, 2, N // 2), (3, 2, N), (2, 2, 1, N), (0,)])
def test_other_shapes_are_no_public_key(context: CkksContext, shape: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError, match="expected a public key of shape") as caught:
        PublicKey(context, np.zeros(shape, dtype=np.uint64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plane", [0, 1])
def test_one_residue_too_large_is_no_public_key(context: CkksContext, keys: ClientKeys, plane: int) -> None:
    polynomials = keys.public_key().copy()
    polynomials[1, plane, 17] = context.modulus.primes[plane]
    with pytest.raises(ProtocolError, match="the client's public key: expected residues below"):
        PublicKey(context, polynomials)


@pytest.mark.parametrize(
    "parameters",
    [
        CkksParameters(prime_bits=(60, 47)),  # 107 bits at N = 4096 are under 128-bit security
        CkksParameters(prime_bits=(47, 47)),
        CkksParameters(degree=2048),
        CkksParameters(degree=1000),
        CkksParameters(prime_bits=(61, 30)),
        CkksParameters(prime_bits=(46, 47)),  # p1 < p0 is needed
        CkksParameters(prime_bits=(50, 40)),  # a residue would not travel in six bytes
    ],
)
def test_weak_or_impossible_parameters_are_refused(parameters: CkksParameters) -> None:
    with pytest.raises(ParameterError):
        CkksContext(parameters)


def test_the_default_parameters_are_those_of_the_documentation(context: CkksContext) -> None:
    total = context.seal.key_context_data().total_coeff_modulus_bit_count()
    assert total == 93
    assert context.degree == N
    assert 2**92 < context.modulus.p0 * context.modulus.p1 < 2**93


def test_residues_are_checked_against_both_primes(context: CkksContext) -> None:
    modulus = context.modulus
    good = np.broadcast_to(modulus.primes[:, None] - np.uint64(1), (3, 2, 5)).copy()
    assert check_residues(good, modulus, "test") is good
    for plane in (0, 1):
        bad = good.copy()
        bad[2, plane, 4] += np.uint64(1)
        with pytest.raises(ProtocolError, match="test: expected residues below"):
            check_residues(bad, modulus, "test")
