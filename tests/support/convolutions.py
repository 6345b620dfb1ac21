"""Random convolutions and plans."""

from hypothesis import assume
from hypothesis import strategies as st

from protocols.linear.packing import ConvPlan, ConvShape

__all__ = ["plans", "shapes"]

small = st.integers(1, 4)


pairs = st.tuples(small, small)


@st.composite
def shapes(draw: st.DrawFn) -> ConvShape:
    """A random convolution, possibly grouped, strided and padded."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel, stride = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    height, width = (draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True))
    return ConvShape(groups * draw(small), height, width, groups * draw(small), kernel, stride, padding, groups)


@st.composite
def plans(draw: st.DrawFn, degrees: tuple[int, ...] = (256, 512)) -> ConvPlan:
    """A random valid plan, which the planner need not choose: nothing need divide, and blocks may exceed the layer."""
    shape, degree = draw(shapes()), draw(st.sampled_from(degrees))
    tile = draw(st.integers(1, shape.height_out)), draw(st.integers(1, shape.width_out))
    area = (tile[0] + shape.phase_kernel[0] - 1) * (tile[1] + shape.phase_kernel[1] - 1)
    block_in = draw(st.integers(1, max(1, min(shape.phase_channels + 1, degree // area))))
    block_out = draw(st.integers(1, max(1, min(shape.channels_out + 1, degree // (area * block_in)))))
    assume(block_in * block_out * area <= degree)
    return ConvPlan(shape, block_in, block_out, tile, degree)
