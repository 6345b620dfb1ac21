"""Bit planes against their definition: bit j of word w of plane i is bit i of element 64 w + j."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arithmetic.bitplanes import bit_planes, plane_words, subset_products, unpack_plane


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200), st.sampled_from([1, 4, 8, 16, 32, 33, 64]))
@settings(max_examples=60, deadline=None)
def test_planes_hold_the_bits_where_the_definition_says(values: list[int], bits: int) -> None:
    planes = bit_planes(np.array(values, dtype=np.uint64), bits)
    assert planes.shape == (bits, plane_words(len(values)))
    assert planes.dtype == np.uint64
    for i in (0, bits // 2, bits - 1):
        for element, value in enumerate(values):
            word, bit = divmod(element, 64)
            assert int(planes[i, word]) >> bit & 1 == value >> i & 1
        filled = sum((value >> i & 1) for value in values)
        assert sum(int(word).bit_count() for word in planes[i]) == filled  # the rest of the last word is zero


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 1000])
def test_unpacking_every_plane_restores_the_values(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 2**64, count, dtype=np.uint64)
    planes = bit_planes(values, 64)
    bits = [unpack_plane(plane, count) << np.uint64(i) for i, plane in enumerate(planes)]
    assert (np.bitwise_or.reduce(bits) == values).all()
    assert set(np.unique(unpack_plane(planes[3], count))) <= {0, 1}


@pytest.mark.parametrize(("count", "words"), [(0, 0), (1, 1), (64, 1), (65, 2), (128, 2)])
def test_plane_words(count: int, words: int) -> None:
    assert plane_words(count) == words


def test_a_plane_may_be_a_view() -> None:
    planes = bit_planes(np.arange(256, dtype=np.uint64), 16)
    assert (unpack_plane(planes[::2][1], 256) == (np.arange(256) >> 2 & 1)).all()
    assert (unpack_plane(np.repeat(planes[2], 2)[::2], 256) == (np.arange(256) >> 2 & 1)).all()


@pytest.mark.parametrize("bits", [4, 32, 64])
@pytest.mark.parametrize("count", [64, 64 * 512, 64 * 512 + 1, 64 * 1200 + 7])
def test_large_arrays_are_done_in_runs_and_left_as_they_are(count: int, bits: int) -> None:
    values = np.random.default_rng(count).integers(0, 2**64, count, dtype=np.uint64)
    before = values.copy()
    planes = bit_planes(values, bits)
    assert (values == before).all()
    for i in (0, bits - 1):
        assert (unpack_plane(planes[i], count) == values >> np.uint64(i) & np.uint64(1)).all()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_products_of_all_sets(size: int) -> None:
    bits = np.random.default_rng(size).integers(0, 2**64, (size, 5, 3), dtype=np.uint64)
    products = subset_products(bits)
    assert products.shape == (2**size - 1, 5, 3)
    for number in range(1, 2**size):
        chosen = [bits[i] for i in range(size) if number >> i & 1]
        assert (products[number - 1] == np.bitwise_and.reduce(chosen)).all()
