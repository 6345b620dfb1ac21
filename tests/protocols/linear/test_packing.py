"""Packings against torch's convolution, exactly, on small integers: the product of polynomials is plain arithmetic."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.linear.planner import CostModel, plan_convolution
from support.convolutions import plans, shapes

settings.register_profile("packing", max_examples=120, deadline=None)
many = settings.get_profile("packing")


def negacyclic(a: Any, b: Any) -> Any:
    """The product of integer polynomials modulo X^N + 1, for products below 2^50."""
    n = a.shape[-1]
    full = np.rint(np.fft.irfft(np.fft.rfft(a, 2 * n) * np.fft.rfft(b, 2 * n), 2 * n)).astype(np.int64)
    return full[..., :n] - full[..., n:]


def convolve(plan: ConvPlan, images: Any, weight: Any) -> Any:
    """Compute a convolution the way the protocol does, in the clear."""
    inputs = plan.pack_inputs(images)
    assert inputs.shape == (len(images) * plan.tile_count, plan.groups_in, plan.degree)
    products = np.zeros((inputs.shape[0], plan.groups_out, plan.degree), dtype=np.int64)
    polynomials = plan.pack_weights(weight)
    assert polynomials.shape == (len(plan.blocks()), plan.degree)
    for (group_out, group_in), polynomial in zip(plan.blocks(), polynomials, strict=True):
        products[:, group_out] += negacyclic(inputs[:, group_in], polynomial)
    return plan.unpack_outputs(products[..., plan.output_indices])


def assert_exact(plan: ConvPlan, seed: int, batch: int = 2) -> None:
    shape, random = plan.shape, np.random.default_rng(seed)
    images = random.integers(-9, 10, (batch, shape.channels, shape.height, shape.width))
    weight = random.integers(-9, 10, (shape.channels_out, shape.channels // shape.groups, *shape.kernel))
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(images).double(),
        torch.from_numpy(weight).double(),
        stride=shape.stride,
        padding=shape.padding,
        groups=shape.groups,
    )
    came = convolve(plan, images, weight)
    assert came.shape == expected.shape
    assert (came == expected.numpy()).all()


@pytest.mark.slow
@given(plans(), st.integers(0, 2**32))
@many
def test_every_plan_computes_the_convolution(plan: ConvPlan, seed: int) -> None:
    assert_exact(plan, seed)


@pytest.mark.slow
@given(shapes(), st.sampled_from([256, 512]), st.integers(0, 2**32))
@many
def test_the_planners_choice_computes_the_convolution(shape: ConvShape, degree: int, seed: int) -> None:
    assert_exact(plan_convolution(shape, degree), seed)


@pytest.mark.parametrize(
    "plan",
    [
        ConvPlan(ConvShape(2, 16, 16, 2), 1, 1, (16, 16), 256),  # the polynomial is full
        ConvPlan(ConvShape(16, 4, 4, 1), 16, 1, (4, 4), 256),
        ConvPlan(ConvShape(1, 4, 4, 16, (3, 3), (1, 1), (1, 1)), 1, 7, (4, 4), 256),
        ConvPlan(ConvShape(3, 20, 20, 2, (3, 3), (1, 1), (1, 1)), 2, 1, (7, 6), 256),  # tiles with a halo
        ConvPlan(ConvShape(6, 9, 9, 6, (3, 3), (2, 2), (1, 1), 6), 5, 4, (1, 2), 256),  # depthwise, strided
        ConvPlan(ConvShape(1, 9, 1, 1, (3, 1), (5, 2)), 1, 1, (2, 1), 16),  # a stride beyond the kernel
        ConvPlan(ConvShape(1, 16, 16, 1, (16, 16)), 1, 1, (1, 1), 256),  # the kernel is the image
    ],
)
def test_plans_at_the_limits(plan: ConvPlan) -> None:
    assert_exact(plan, seed=1, batch=1)


@given(plans())
@settings(max_examples=40, deadline=None)
def test_each_output_has_a_coefficient_of_its_own(plan: ConvPlan) -> None:
    indices = plan.output_indices
    assert len(np.unique(indices)) == len(indices) == plan.block_out * plan.tile[0] * plan.tile[1]
    assert indices.min() >= 0
    assert indices.max() < plan.degree


def test_only_blocks_that_share_a_channel_group_are_multiplied() -> None:
    plan = ConvPlan(ConvShape(8, 2, 2, 8, groups=4), 2, 2, (2, 2), 256)
    assert plan.blocks() == [(i, i) for i in range(4)]
    assert plan.pack_weights(np.ones((8, 2, 1, 1), dtype=np.int64)).any(axis=1).tolist() == [True] * 4


@given(plans())
@settings(max_examples=60, deadline=None)
def test_a_block_is_multiplied_exactly_if_a_weight_can_be_in_it(plan: ConvPlan) -> None:
    """By the definition of a grouped convolution: which input and output channels share a group."""
    shape = plan.shape
    phases = shape.phases[0] * shape.phases[1]
    expected = {
        (m // plan.block_out, (c * phases + phase) // plan.block_in)
        for m in range(shape.channels_out)
        for c in range(shape.channels)
        for phase in range(phases)
        if m // (shape.channels_out // shape.groups) == c // (shape.channels // shape.groups)
    }
    blocks = plan.blocks()
    assert set(blocks) == expected
    assert len(blocks) == len(set(blocks))
    assert blocks == sorted(blocks)  # the products of an output ciphertext lie together


def test_polynomials_of_zero_weights_are_kept() -> None:
    """So that neither time nor memory tells where weights are zero."""
    plan = ConvPlan(ConvShape(4, 2, 2, 4), 2, 2, (2, 2), 256)
    weight = np.zeros((4, 4, 1, 1), dtype=np.int64)
    assert plan.pack_weights(weight).shape == (4, 256)
    assert not plan.pack_weights(weight).any()
    weight[3, 0] = 5
    assert plan.pack_weights(weight).any(axis=1).tolist() == [block == (1, 0) for block in plan.blocks()]


@pytest.mark.parametrize(
    ("block_in", "block_out", "tile"),
    [(0, 1, (4, 4)), (1, 0, (4, 4)), (1, 1, (0, 4)), (3, 6, (4, 4)), (1, 1, (17, 16))],
)
def test_blocks_that_do_not_fit_are_refused(block_in: int, block_out: int, tile: tuple[int, int]) -> None:
    with pytest.raises(ParameterError, match=r"expected (positive )?blocks"):
        ConvPlan(ConvShape(4, 16, 16, 6), block_in, block_out, tile, 256)


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 4, 4, 1),
        (1, 4, 4, 0),
        (1, 4, 4, 1, (0, 1)),
        (1, 4, 4, 1, (1, 1), (0, 1)),
        (1, 4, 4, 1, (1, 1), (1, 1), (-1, 0)),
        (1, 4, 4, 1, (5, 1)),
        (3, 4, 4, 2, (1, 1), (1, 1), (0, 0), 2),
        (2, 4, 4, 3, (1, 1), (1, 1), (0, 0), 2),
        (1, 0, 4, 1),
    ],
)
def test_impossible_convolutions_are_refused(arguments: Any) -> None:
    with pytest.raises(ParameterError):
        ConvShape(*arguments)


def test_other_arrays_than_the_plans_are_refused() -> None:
    plan = plan_convolution(ConvShape(2, 4, 4, 3), 256)
    with pytest.raises(ParameterError, match="expected images"):
        plan.pack_inputs(np.zeros((1, 2, 4, 5), dtype=np.uint64))
    with pytest.raises(ParameterError, match="expected weights"):
        plan.pack_weights(np.zeros((3, 1, 1, 1), dtype=np.int64))


def test_the_planner_refuses_a_kernel_larger_than_a_polynomial() -> None:
    with pytest.raises(ParameterError, match="expected a kernel that fits 256"):
        plan_convolution(ConvShape(1, 20, 20, 1, (17, 17)), 256)


@given(plans())
@settings(max_examples=40, deadline=None)
def test_no_random_plan_is_cheaper_than_the_planners_by_much(plan: ConvPlan) -> None:
    """The planner's tiles are those that cut the output evenly, so it may miss by little, and never by half."""
    model = CostModel()
    assert model.cost(plan_convolution(plan.shape, plan.degree)) <= 1.5 * model.cost(plan)
