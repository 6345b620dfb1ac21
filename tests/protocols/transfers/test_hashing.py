"""The hash function: AES by published vectors, sigma by its algebra, all of it by its definition on integers."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError
from protocols.transfers import kernels
from protocols.transfers.hashing import HASHES_PER_KEY, CorrelationRobustHash, blocks_with_slack, derived_seed
from support.statistics import assert_uniform_bytes
from support.transfer_parties import as_integer, random_blocks, reference_hash, sigma

SEED = bytes(range(32))
DELTA = random_blocks(1, seed=9)[0] | np.array([1, 0], dtype=np.uint64)

FIPS_197 = (
    "000102030405060708090a0b0c0d0e0f",
    ["00112233445566778899aabbccddeeff"],
    ["69c4e0d86a7b0430d8cdb78070b4c55a"],
)
"""FIPS 197, appendix C.1 (AES-128)."""

SP_800_38A = (
    "2b7e151628aed2a6abf7158809cf4f3c",
    [
        "6bc1bee22e409f96e93d7e117393172a",
        "ae2d8a571e03ac9c9eb76fac45af8e51",
        "30c81c46a35ce411e5fbc1191a0a52ef",
        "f69f2445df4f9b17ad2b417be66c3710",
    ],
    [
        "3ad77bb40d7a3660a89ecaf32466ef97",
        "f5d3d58503b9699de785895a96fdbaaf",
        "43b1cd7f598ece23881b00e3ed030688",
        "7b0c785e27e8ad3f8223207104725dd4",
    ],
)
"""NIST SP 800-38A, appendix F.1.1 (ECB-AES128.Encrypt)."""


def number(count: int, first: int = 0) -> list[int]:
    return list(range(first, first + count))


@pytest.mark.parametrize(("key", "inputs", "outputs"), [FIPS_197, SP_800_38A], ids=["FIPS 197", "SP 800-38A"])
def test_aes_known_answers(key: str, inputs: list[str], outputs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    digest = SimpleNamespace(digest=lambda: bytes.fromhex(key) + bytes(16))
    monkeypatch.setattr("protocols.transfers.hashing.hashlib", SimpleNamespace(sha256=lambda data: digest))
    blocks = blocks_with_slack(len(inputs))
    blocks[:-1] = np.frombuffer(bytes.fromhex("".join(inputs)), dtype=np.uint64).reshape(-1, 2)
    blocks[-1] = 7
    CorrelationRobustHash(SEED).encrypt(blocks, first=0)
    assert blocks[:-1].tobytes().hex() == "".join(outputs)
    assert (blocks[-1] == 7).all()


def test_sigma_known_answers() -> None:
    high, low = 0x0123456789ABCDEF, 0xFF00FF00FF00FF00
    out = np.empty((1, 2), dtype=np.uint64)
    kernels.orthomorphism(np.array([[low, high]], dtype=np.uint64), out)
    assert out.tolist() == [[high, 0xFE23BA6776AB32EF]]
    blocks = random_blocks(100)
    out = np.empty_like(blocks)
    kernels.orthomorphism(blocks, out)
    assert [as_integer(b) for b in out] == [sigma(as_integer(b)) for b in blocks]


def test_sigma_is_a_linear_orthomorphism() -> None:
    """It and its sum with the identity have full rank, by Gaussian elimination on the images of the unit vectors."""
    units = np.array([[1 << i & (2**64 - 1), 1 << i >> 64] for i in range(128)], dtype=np.uint64)
    out = np.empty_like(units)
    kernels.orthomorphism(units, out)
    for images in (out, out ^ units):
        basis: list[int] = []
        for image in map(as_integer, images):
            for known in basis:
                image = min(image, image ^ known)
            assert image
            basis.append(image)


@given(st.integers(0, 40), st.sampled_from([0, 1, 4090, 4096, 8192 - 17, 10**12]), st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_hashes_are_what_the_definition_says(count: int, first: int, words: int) -> None:
    blocks = random_blocks(count, seed=first + count)
    numbers = number(count, first)
    pairs = np.empty((count, 2, words), dtype=np.uint64)
    single = np.empty((count, words), dtype=np.uint64)
    low_bits = np.empty(count, dtype=np.uint8)
    CorrelationRobustHash(SEED).of_pairs(blocks, DELTA, first, pairs)
    CorrelationRobustHash(SEED).of_blocks(blocks, first, low_bits, single)
    mask = 2 ** (64 * words) - 1
    for n, block, pair, one, bit in zip(numbers, map(as_integer, blocks), pairs, single, low_bits, strict=True):
        expected = [reference_hash(SEED, n, x) & mask for x in (block, block ^ as_integer(DELTA))]
        assert [int.from_bytes(p.tobytes(), "little") for p in pair] == expected
        assert int.from_bytes(one.tobytes(), "little") == expected[0]
        assert bit == block & 1


def test_a_run_over_several_keys_is_the_same_in_any_pieces() -> None:
    count = 3 * HASHES_PER_KEY + 100
    blocks = random_blocks(count)
    whole, pieces = np.empty((2, count, 2, 2), dtype=np.uint64)
    function = CorrelationRobustHash(SEED)
    function.of_pairs(blocks, DELTA, 50, whole)
    for start, stop in ((5000, count), (0, 1), (1, 5000)):
        function.of_pairs(blocks[start:stop], DELTA, 50 + start, pieces[start:stop])
    assert (whole == pieces).all()
    assert len(np.unique(whole.reshape(-1, 2), axis=0)) == 2 * count
    assert_uniform_bytes(whole)


def test_keys_differ_by_number_and_by_seed() -> None:
    zeros = np.zeros((HASHES_PER_KEY + 1, 2), dtype=np.uint64)
    out = np.empty((len(zeros), 2), dtype=np.uint64)
    CorrelationRobustHash(SEED).of_blocks(zeros, 0, np.empty(len(zeros), dtype=np.uint8), out)
    assert (out[:-1] == out[0]).all()
    assert (out[-1] != out[0]).any()
    other = np.empty((1, 2), dtype=np.uint64)
    CorrelationRobustHash(SEED[::-1]).of_blocks(zeros[:1], 0, np.empty(1, dtype=np.uint8), other)
    assert (other[0] != out[0]).any()
    assert len({derived_seed(SEED, "pads"), derived_seed(SEED, "trees"), derived_seed(SEED[::-1], "pads")}) == 3


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ParameterError, match="32 bytes, got 31"):
        CorrelationRobustHash(bytes(31))
