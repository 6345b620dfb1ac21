"""The server's product in the clear, against Python's integers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.encryption.ckks import CkksContext
from protocols.linear.convolution import fully_connected_shape
from protocols.linear.plain_convolution import (
    PRODUCT_BOUND,
    PlainConvolution,
    PlainProduct,
    plain_convolution,
    quantise,
)
from support.residues import integers

MODULUS = CkksContext().modulus


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 18), st.integers(0, 2**32), st.data())
def test_a_product_is_exact(channels: int, count: int, batch: int, bits: int, seed: int, data: Any) -> None:
    random = np.random.default_rng(seed)
    largest = PRODUCT_BOUND // channels - 1
    weight = random.integers(-largest, largest + 1, (count, channels, 1, 1))
    weight.flat[0] = data.draw(st.sampled_from([-largest, 0, largest]))
    values = random.integers(0, 2**64, (batch, channels, 1, 1), dtype=np.uint64)
    values.flat[0] = data.draw(st.sampled_from([0, 2**64 - 1, 2**32]))
    product = plain_convolution(fully_connected_shape(channels, count), weight.astype(np.int32), MODULUS, bits)
    assert isinstance(product, PlainProduct)
    found = product.multiply(values)
    q = MODULUS.p0 * MODULUS.p1
    for b in range(batch):
        for m in range(count):
            total = sum(int(w) * (int(v) - 2**64) for w, v in zip(weight[m].ravel(), values[b].ravel(), strict=True))
            assert integers(MODULUS, found[b, m]) == [(total << bits) % q]


def test_larger_weights_take_the_convolution() -> None:
    shape = fully_connected_shape(2, 1)
    weight = np.full((1, 2, 1, 1), PRODUCT_BOUND // 2)
    assert isinstance(plain_convolution(shape, weight, MODULUS, 0), PlainConvolution)
    assert isinstance(plain_convolution(shape, weight - 1, MODULUS, 0), PlainProduct)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_are_weights_already(dtype: Any) -> None:
    weight = np.arange(4, dtype=dtype).reshape(4, 1, 1, 1)
    assert quantise(weight, 18) is weight
