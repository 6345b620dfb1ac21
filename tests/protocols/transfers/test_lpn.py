"""The local code against a dense matrix of bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError
from protocols.transfers.lpn import LocalCode
from support.statistics import assert_uniform
from support.transfer_parties import aes, bits_of, random_blocks

SEED = bytes(range(2, 34))
ROW_WEIGHT = 10


def positions(first: int, count: int, log_length: int) -> np.ndarray:
    """Positions of rows first, ..., (count, 10), from AES-256 of a counter."""
    blocks = -(-(first + count) * ROW_WEIGHT // 4)
    stream = b"".join(aes(SEED, i.to_bytes(16, "big")) for i in range(blocks))
    words = np.frombuffer(stream, dtype="<u4")[first * ROW_WEIGHT : (first + count) * ROW_WEIGHT]
    return (words % (1 << log_length)).reshape(count, ROW_WEIGHT)


def dense(first: int, count: int, log_length: int) -> np.ndarray:
    matrix = np.zeros((count, 1 << log_length), dtype=np.uint8)
    for row, row_positions in zip(matrix, positions(first, count, log_length), strict=True):
        for position in row_positions:
            row[position] ^= 1
    return matrix


@given(st.integers(1, 9), st.integers(0, 70), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_code_is_a_dense_product(log_length: int, count: int, half: int) -> None:
    vector, leaves = random_blocks(1 << log_length), random_blocks(count, seed=1)
    out = leaves.copy()
    LocalCode(SEED, log_length).add_to(out, vector, 2 * half)
    matrix = dense(2 * half, count, log_length)
    product = (matrix.astype(np.int64) @ bits_of(vector).astype(np.int64)) % 2
    assert (bits_of(out ^ leaves) == product).all()


def test_pieces_are_the_whole_also_across_runs() -> None:
    vector, out, pieces = random_blocks(1 << 10), *np.zeros((2, 10_000, 2), dtype=np.uint64)
    code = LocalCode(SEED, 10)
    code.add_to(out, vector, 0)
    for start, stop in ((4096, 10_000), (0, 64), (64, 4096)):
        code.add_to(pieces[start:stop], vector, start)
    assert (out == pieces).all()
    rows = positions(0, 10_000, 10)
    assert (out == np.bitwise_xor.reduce(vector[rows], axis=1)).all()
    assert_uniform(rows, 1 << 10)


def test_it_is_linear_so_that_shares_stay_shares() -> None:
    code = LocalCode(SEED, 6)
    first, second = random_blocks(64, seed=1), random_blocks(64, seed=2)
    images = []
    for vector in (first, second, first ^ second):
        out = np.zeros((500, 2), dtype=np.uint64)
        code.add_to(out, vector, 0)
        images.append(out)
    assert (images[0] ^ images[1] == images[2]).all()


def test_parameters_are_checked() -> None:
    code = LocalCode(SEED, 4)
    out = random_blocks(2)
    with pytest.raises(ParameterError, match="even first row and 16 blocks, got row 1"):
        code.add_to(out, random_blocks(16), 1)
    with pytest.raises(ParameterError, match="got row 0, 17 blocks"):
        code.add_to(out, random_blocks(17), 0)
    with pytest.raises(ParameterError, match="seed of 32 bytes"):
        LocalCode(SEED[:-1], 4)
    with pytest.raises(ParameterError, match="seed of 32 bytes"):
        LocalCode(SEED, 0)
