"""Packings against torch's convolution, exactly, on small integers: the product of polynomials is plain arithmetic."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError
from protocols.packing import ConvPlan, ConvShape
from protocols.planner import CostModel, plan_convolution

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
    for (group_out, group_in), polynomial in plan.pack_weights(weight).items():
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


small = st.integers(1, 4)
pairs = st.tuples(small, small)


@st.composite
def shapes(draw: st.DrawFn) -> ConvShape:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel, stride = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    height, width = (draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True))
    return ConvShape(groups * draw(small), height, width, groups * draw(small), kernel, stride, padding, groups)


@st.composite
def plans(draw: st.DrawFn) -> ConvPlan:
    """A random valid plan, which the planner need not choose: blocks and tiles may not divide, or exceed, the layer."""
    shape, degree = draw(shapes()), draw(st.sampled_from([256, 512]))
    tile = draw(st.integers(1, shape.height_out + 1)), draw(st.integers(1, shape.width_out + 1))
    area = (tile[0] + shape.phase_kernel[0] - 1) * (tile[1] + shape.phase_kernel[1] - 1)
    block_in = draw(st.integers(1, max(1, min(shape.phase_channels + 1, degree // area))))
    block_out = draw(st.integers(1, max(1, min(shape.channels_out + 1, degree // (area * block_in)))))
    assume(block_in * block_out * area <= degree)
    return ConvPlan(shape, block_in, block_out, tile, degree)


@given(plans(), st.integers(0, 2**32))
@many
def test_every_plan_computes_the_convolution(plan: ConvPlan, seed: int) -> None:
    assert_exact(plan, seed)


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
    assert list(plan.pack_weights(np.ones((8, 2, 1, 1), dtype=np.int64))) == plan.blocks()


def test_polynomials_of_zero_weights_are_left_out() -> None:
    plan = ConvPlan(ConvShape(4, 2, 2, 4), 2, 2, (2, 2), 256)
    weight = np.zeros((4, 4, 1, 1), dtype=np.int64)
    assert plan.pack_weights(weight) == {}
    weight[3, 0] = 5
    assert list(plan.pack_weights(weight)) == [(1, 0)]


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
