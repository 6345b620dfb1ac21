"""The planner: choose the packing of a layer from a cost model.

For every tiling and every Cw, Mw takes the rest of the polynomial; the cheapest by the sum of its parts wins. The
constants are milliseconds measured on one core of a commodity machine and matter only relative to each other.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.errors import ParameterError
from protocols.packing import ConvPlan, ConvShape

__all__ = ["CostModel", "plan_convolution"]


@dataclass(frozen=True)
class CostModel:
    """Milliseconds per ciphertext or polynomial; see docs/PERFORMANCE.md for how they were measured.

    Args:
        upload: client and server time of a ciphertext sent (add the shares, pack, check, load, transform).
        download: client and server time of a ciphertext returned (transform, save, mask, decrypt).
        product: multiply a ciphertext by a weight polynomial and accumulate.
        weight: hold one weight polynomial (encode it at start; 64 KiB of memory).
    """

    upload: float = 0.9
    download: float = 1.6
    product: float = 0.08
    weight: float = 0.05

    def cost(self, plan: ConvPlan) -> float:
        """Return the predicted offline milliseconds of a plan for one image, both parties together."""
        blocks = len(plan.blocks())
        traffic = self.upload * plan.groups_in + self.download * plan.groups_out
        return plan.tile_count * (traffic + self.product * blocks) + self.weight * blocks


@functools.lru_cache(maxsize=256)
def plan_convolution(shape: ConvShape, degree: int = 4096, cost: CostModel | None = None) -> ConvPlan:
    """Return the cheapest plan for a convolution.

    Raises:
        ParameterError: not even one output pixel fits a polynomial.
    """
    model = cost or CostModel()
    plans = list(_candidates(shape, degree))
    if not plans:
        raise ParameterError(f"expected a kernel that fits {degree} coefficients, got {shape.kernel}")
    return min(plans, key=model.cost)


def _candidates(shape: ConvShape, degree: int) -> Iterator[ConvPlan]:
    kernel = shape.phase_kernel
    for height in _divided(shape.height_out):
        for width in _divided(shape.width_out):
            area = (height + kernel[0] - 1) * (width + kernel[1] - 1)
            if area > degree:
                continue
            room = degree // area
            for block_in in _block_sizes(shape.phase_channels, room):
                block_out = min(room // block_in, shape.channels_out)
                yield ConvPlan(shape, block_in, block_out, (height, width), degree)


def _divided(size: int) -> list[int]:
    """The tile sizes that cut `size` into 1, 2, 3, ... parts."""
    return sorted({-(-size // parts) for parts in range(1, min(size, 24) + 1)}, reverse=True)


def _block_sizes(channels: int, room: int) -> list[int]:
    """The block sizes that cut `channels` into 1, 2, 3, ... ciphertexts and fit."""
    return sorted({-(-channels // parts) for parts in range(1, channels + 1)} & set(range(1, room + 1)))
