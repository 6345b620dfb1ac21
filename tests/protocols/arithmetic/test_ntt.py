"""The transform: SEAL's own numbers, there and back, and products of polynomials by Python's integers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic.ntt import NumberTheoreticTransform
from protocols.arithmetic.residues import CrtModulus
from protocols.encryption.ckks import CkksContext, CkksParameters
from protocols.errors import ParameterError
from support.seal_reference import SealReference

N = 4096
SEALS = CrtModulus(140737488273409, 70368743669761)
MODULI = [SEALS, CrtModulus(281474976694273, 17592186028033)]  # the second is near the largest that are taken


def random(modulus: CrtModulus, shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, modulus.primes[:, None], (*shape[:-1], 2, shape[-1]), np.uint64)


def polynomials(modulus: CrtModulus) -> Any:
    """Random polynomials, and zero, one, X^(N-1), and the largest residues."""
    values = random(modulus, (6, N))
    values[:4] = 0
    values[1, :, 0] = 1
    values[2, :, N - 1] = 1
    values[3] = modulus.primes[:, None] - np.uint64(1)
    return values


@pytest.mark.parametrize(
    "parameters",
    [CkksParameters(), CkksParameters(prime_bits=(48, 44)), CkksParameters(degree=8192, prime_bits=(48, 45))],
)
def test_the_transform_gives_seals_numbers(parameters: CkksParameters, tmp_path: Any) -> None:
    context = CkksContext(parameters)
    reference = SealReference(context, tmp_path)
    values = random(context.modulus, (5, context.degree))
    values[0], values[1] = 0, context.modulus.primes[:, None] - np.uint64(1)
    assert (context.transform.forward(values) == reference.transform(values)).all()
    assert (context.transform.inverse(values) == reference.transform(values, inverse=True)).all()


@pytest.mark.parametrize("modulus", MODULI)
def test_there_and_back(modulus: CrtModulus) -> None:
    transform = NumberTheoreticTransform(modulus, N)
    values = polynomials(modulus)
    before = values.copy()
    forward = transform.forward(values)
    assert (values == before).all()
    assert (forward < modulus.primes[:, None]).all()
    assert (forward[1] == 1).all()
    assert (transform.inverse(forward) == values).all()
    assert (transform.forward(transform.inverse(values)) == values).all()


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("degree", [2, 4, 8, 64])
def test_products_are_negacyclic_convolutions(modulus: CrtModulus, degree: int) -> None:
    transform = NumberTheoreticTransform(modulus, degree)
    a, b = random(modulus, (3, degree), 1), random(modulus, (3, degree), 2)
    a[0], b[0] = modulus.primes[:, None] - np.uint64(1), modulus.primes[:, None] - np.uint64(1)
    came = transform.inverse(modulus.multiply(transform.forward(a), transform.forward(b)))
    for i, r in np.ndindex(3, 2):
        p = int(modulus.primes[r])
        expected = [0] * degree
        for j, x in enumerate(a[i, r].tolist()):
            for k, y in enumerate(b[i, r].tolist()):
                expected[(j + k) % degree] += x * y if j + k < degree else -x * y
        assert came[i, r].tolist() == [v % p for v in expected]


@given(st.integers(0, N - 1), st.integers(0, N - 1), st.integers(-(2**45), 2**45), st.integers(-(2**45), 2**45))
@settings(max_examples=20, deadline=None)
def test_products_of_monomials(i: int, j: int, x: int, y: int) -> None:
    transform = CONTEXT.transform
    values = np.zeros((2, N), dtype=np.int64)
    values[0, i], values[1, j] = x, y
    a, b = CONTEXT.encode(values)
    came = transform.inverse(SEALS.multiply(a[None], b))[0]
    expected = np.zeros((2, N), dtype=np.uint64)
    sign = 1 if i + j < N else -1
    expected[:, (i + j) % N] = [sign * x * y % p for p in (SEALS.p0, SEALS.p1)]
    assert (came == expected).all()


CONTEXT = CkksContext()


def test_an_evaluation_is_the_polynomials_value_at_a_root() -> None:
    """Every value of the transform is that of the polynomial at one of the N odd powers of a root, each once."""
    degree, p = 16, SEALS.p0
    values = random(SEALS, (1, degree))
    generator = next(
        g for g in (pow(b, (p - 1) // (2 * degree), p) for b in range(2, 99)) if pow(g, degree, p) == p - 1
    )
    roots = [pow(generator, k, p) for k in range(1, 2 * degree, 2)]
    expected = {sum(c * pow(root, k, p) for k, c in enumerate(values[0, 0].tolist())) % p for root in roots}
    assert set(NumberTheoreticTransform(SEALS, degree).forward(values)[0, 0].tolist()) == expected


def test_no_polynomials_and_other_memory_orders() -> None:
    transform = CONTEXT.transform
    assert transform.forward(np.zeros((0, 2, N), dtype=np.uint64)).shape == (0, 2, N)
    values = random(SEALS, (4, N))
    assert (transform.forward(values[::2]) == transform.forward(values)[::2]).all()
    assert (transform.forward(np.asfortranarray(values)) == transform.forward(values)).all()


@pytest.mark.parametrize("shape", [(2, N), (1, 3, N), (1, 2, N // 2), (1, 1, 2, N), (1, N, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for transform in (CONTEXT.transform.forward, CONTEXT.transform.inverse):
        with pytest.raises(ParameterError, match="expected uint64 residues"):
            transform(np.zeros(shape, dtype=np.uint64))


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint32])
def test_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(ParameterError, match="expected uint64 residues"):
        CONTEXT.transform.forward(np.zeros((1, 2, N), dtype=dtype))


@pytest.mark.parametrize("modulus", [CrtModulus(SEALS.p0, 2**45 - 55), CrtModulus(2**47 - 115, SEALS.p1)])
def test_primes_without_the_roots_are_refused(modulus: CrtModulus) -> None:
    with pytest.raises(ParameterError, match="expected primes that are 1 modulo 8192"):
        NumberTheoreticTransform(modulus, N)
