"""Choose the packing of a layer from a cost model.

The planner tries every tiling and every number Cw of input channels per ciphertext. The rest of the polynomial
determines Mw, the output channels per product. The cheapest plan wins. The cost of a plan is the work of both parties
and the time of its bytes on the link, all offline. Only the ratios of the costs matter for the choice.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.arithmetic.residues import RESIDUE_BYTES, SHORT_BYTES
from protocols.encryption.ckks import SEED_BYTES
from protocols.errors import ParameterError
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.link import NONE, Link

__all__ = ["CostModel", "bytes_down", "bytes_up", "plan_convolution"]


@dataclass(frozen=True)
class CostModel:
    """The costs from which the planner chooses: milliseconds of one core per operation, and the link.

    The default times are fixed constants for a machine that was not calibrated; `hybridface calibrate` measures a
    machine's own times. The defaults are not the times of the machine in docs/PERFORMANCE.md, most of which are shorter
    (client_upload 0.168 ms, server_download 0.377 ms).

    Args:
        client_upload: time to encrypt and pack a ciphertext that the client sends.
        server_upload: time to unpack, check and expand it.
        server_download: time to rerandomise, mask and pack a ciphertext that the server returns.
        client_download: time to unpack and decrypt it.
        product: time to multiply a ciphertext by a weight polynomial and accumulate.
        weight: time to read a weight polynomial from memory, once for all tiles of a batch.
        link: the link between client and server.

    Raises:
        ParameterError: a time is not positive and finite.
    """

    client_upload: float = 0.35
    server_upload: float = 0.12
    server_download: float = 0.55
    client_download: float = 0.35
    product: float = 0.01
    weight: float = 0.01
    link: Link = NONE

    def __post_init__(self) -> None:
        times = (self.client_upload, self.server_upload, self.server_download, self.client_download)
        for value in (*times, self.product, self.weight):
            if not 0 < value < math.inf:
                raise ParameterError(f"expected times above 0 ms, got {value}")

    def client(self, plan: ConvPlan) -> float:
        """Return the client's milliseconds for one image."""
        return plan.tile_count * (self.client_upload * plan.groups_in + self.client_download * plan.groups_out)

    def server(self, plan: ConvPlan) -> float:
        """Return the server's milliseconds for one image."""
        blocks = len(plan.blocks())
        per_tile = self.server_upload * plan.groups_in + self.server_download * plan.groups_out + self.product * blocks
        return plan.tile_count * per_tile + self.weight * blocks

    def cost(self, plan: ConvPlan) -> float:
        """Return the cost that the planner minimises: both parties' work and the transfer, in ms for one image."""
        return self.client(plan) + self.server(plan) + self._transfer(bytes_up(plan)) + self._transfer(bytes_down(plan))

    def elapsed(self, plan: ConvPlan) -> float:
        """Return a layer's time among others, in ms. Both parties and the link work at once; the slowest counts."""
        return max(
            self.client(plan), self.server(plan), self._transfer(bytes_up(plan)), self._transfer(bytes_down(plan))
        )

    def _transfer(self, size: int) -> float:
        return 1e3 * self.link.transfer_seconds(size, flights=0)


def bytes_up(plan: ConvPlan) -> int:
    """Return the bytes of a plan's upload for one image: c0 of every ciphertext, and a seed."""
    return plan.tile_count * plan.groups_in * 2 * RESIDUE_BYTES * plan.degree + SEED_BYTES


def bytes_down(plan: ConvPlan) -> int:
    """Return the bytes of a plan's download for one image: c1, and the coefficients of c0 that the client needs."""
    coefficients = plan.degree + plan.block_out * plan.tile[0] * plan.tile[1]
    return plan.tile_count * plan.groups_out * SHORT_BYTES * coefficients


@functools.lru_cache(maxsize=1024)
def plan_convolution(shape: ConvShape, degree: int = 4096, cost: CostModel | None = None) -> ConvPlan:
    """Return the cheapest plan for a convolution.

    Raises:
        ParameterError: the kernel's window for one output pixel does not fit a polynomial.
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
    """Return the tile sizes that cut `size` into 1, 2, 3, ... parts."""
    return sorted({-(-size // parts) for parts in range(1, min(size, 24) + 1)}, reverse=True)


def _block_sizes(channels: int, room: int) -> list[int]:
    """Return the block sizes that cut `channels` into 1, 2, 3, ... ciphertexts and fit."""
    return sorted({-(-channels // parts) for parts in range(1, channels + 1)} & set(range(1, room + 1)))
