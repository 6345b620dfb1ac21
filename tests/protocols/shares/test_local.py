"""Layers without a message: off by at most one last bit, failing as often as stated, padding that wraps."""

import numpy as np
import pytest
import torch

from protocols.arithmetic.fixed_point import share
from protocols.shares import local
from support.statistics import assert_probability


@pytest.mark.parametrize("bits", [0, 1, 16, 40])
def test_truncation_is_off_by_at_most_one_last_bit(bits: int) -> None:
    values = np.random.default_rng(bits).integers(-(2**40), 2**40, 5000)
    values[:4] = [0, 1, -1, 2**40]
    first, second = share(values.view(np.uint64))
    result = local.truncate_locally(first, bits, 0) + local.truncate_locally(second, bits, 1)
    assert np.abs(result.view(np.int64) - values / 2.0**bits).max() <= (1 if bits else 0)


@pytest.mark.parametrize("value", [2**61, -(2**61)])
def test_truncation_fails_with_the_stated_probability(value: int) -> None:
    first, second = share(np.full(20_000, value).view(np.uint64))
    result = (local.truncate_locally(first, 16, 0) + local.truncate_locally(second, 16, 1)).view(np.int64)
    assert_probability(int((np.abs(result - (value >> 16)) > 1).sum()), 20_000, 1 / 8)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 3)), ((1, 1), (2, 2)), ((5, 6), (1, 1))])
def test_average_pool_is_torchs(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(-(2**20), 2**20, (2, 3, 5, 6))
    first, second = share(values.view(np.uint64))
    result = local.average_pool(first, kernel, stride, 0) + local.average_pool(second, kernel, stride, 1)
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(values).double(), kernel, stride).numpy()
    assert result.shape == expected.shape
    count = kernel[0] * kernel[1]
    inexact = 2**20 * count / 2**17 if count.bit_count() > 1 else 0  # 1 / count is rounded to 16 bits
    assert np.abs(result.view(np.int64) - expected).max() <= 1 + inexact


@pytest.mark.parametrize("count", [1, 2, 3, 9, 64, 49])
def test_the_scale_of_a_mean(count: int) -> None:
    factor, bits = local.average_scale(count)
    assert abs(factor / 2**bits - 1 / count) <= (0 if count.bit_count() == 1 else 2.0**-17)


def test_padding_appends_zeros() -> None:
    values = np.arange(1, 13).reshape(1, 2, 2, 3)
    halves = share(values.view(np.uint64))
    first, second = (local.pad(half, (1, 2, 1)) for half in halves)
    total = first + second
    assert total.shape == (1, 3, 4, 4)
    assert (total[:, :2, :2, :3] == values).all()
    assert total.sum() == values.sum()
