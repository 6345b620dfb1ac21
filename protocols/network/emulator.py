"""A plaintext emulator of the fixed-point pipeline: the same integers, without the cryptography.

It walks the layer graph on the integers x 2^16 that the shares add up to. Inputs and weights are rounded. Convolutions
use exact integer arithmetic (float64 products stay below 2^53), each is followed by its shift, and comparisons are
exact. The emulator leaves out the protocol's random errors: truncation errs by at most one last bit either way, and
ring-LWE noise by less. The project measures accuracy on thousands of pairs with it.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import FRACTION_BITS, encode
from protocols.encryption.ckks import CkksParameters
from protocols.errors import ParameterError
from protocols.linear.plain_convolution import quantise
from protocols.network.graph import Graph, Node, Weights, layer_weights
from protocols.network.widths import Widths, range_of
from protocols.shares.comparison import COMPARISON_BITS
from protocols.shares.local import average_scale
from protocols.shares.truncation import public_factor

__all__ = ["Emulator"]

_EXACT = 2.0**53


class Emulator:
    """The pipeline on integers. It is also the `Operations` that its layers call.

    Args:
        graph, weights: the network.
        parameters: for the weights' fractional bits.
        widths: of the comparisons; a value beyond the range of its width is an error.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        parameters: CkksParameters | None = None,
        widths: Widths | None = None,
    ) -> None:
        self.graph = graph
        self._widths = widths or {}
        self._bits = (parameters or CkksParameters()).weight_bits
        self._shapes = graph.linear_layers()
        self._weights = {}
        for name, shape in self._shapes.items():
            weight, bias = layer_weights(weights, name, shape)
            integer = torch.from_numpy(quantise(weight, self._bits).astype(np.float64))
            offset = None if bias is None else torch.from_numpy(encode(bias).view(np.int64).astype(np.float64))
            self._weights[name] = integer, offset
        self.ranges = dict.fromkeys(graph.comparing_layers(), 0.0)
        """The largest magnitude that each comparing layer has met so far; for a max-pool, a bound on differences."""

    @property
    def largest(self) -> float:
        """The largest magnitude that a comparison has met so far."""
        return max(self.ranges.values(), default=0.0)

    def run(self, images: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the network's output on images (B, C, H, W), as int64 (B, ...) at 16 fractional bits.

        Raises:
            ParameterError: a product leaves the range in which float64 is exact, or a value the range of its
                comparison's width.
        """
        value = torch.from_numpy(encode(images).view(np.int64).astype(np.float64))
        with torch.inference_mode():
            return self.graph.evaluate(self, value).numpy().astype(np.int64)

    def linear(self, node: Node, value: torch.Tensor) -> torch.Tensor:
        images = value.reshape(*value.shape, *(1,) * (4 - value.ndim))
        output = self._convolve(node.name, images)
        return output if value.ndim == 4 else output.flatten(1)

    def relu(self, node: Node, value: torch.Tensor) -> torch.Tensor:
        return self._compare(node, value).clamp(min=0)

    def max_pool(
        self,
        node: Node,
        value: torch.Tensor,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        return torch.nn.functional.max_pool2d(self._compare(node, value, 2), kernel, stride, padding)

    def average_pool(self, value: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> torch.Tensor:
        height, width = kernel if kernel != (0, 0) else value.shape[2:]
        factor, bits = average_scale(height * width)
        total = torch.nn.functional.avg_pool2d(value, (height, width), stride, divisor_override=1)
        return _shift(_exact(total * factor, "a mean"), bits)

    def square(self, value: torch.Tensor) -> torch.Tensor:
        return _shift(_exact(value * value, "a square"), FRACTION_BITS)

    def scale(self, value: torch.Tensor, factor: float) -> torch.Tensor:
        integer, bits = public_factor(factor)
        return _shift(_exact(value * integer, f"a product by {factor:g}"), bits)

    def pad(self, value: torch.Tensor, amount: tuple[int, int, int]) -> torch.Tensor:
        channels, bottom, right = amount
        return torch.nn.functional.pad(value, (0, right, 0, bottom, 0, channels))

    def flatten(self, value: torch.Tensor) -> torch.Tensor:
        return value.flatten(1)

    def _convolve(self, name: str, value: torch.Tensor) -> torch.Tensor:
        weight, bias = self._weights[name]
        shape = self._shapes[name]
        product = torch.nn.functional.conv2d(
            value, weight, stride=shape.stride, padding=shape.padding, groups=shape.groups
        )
        result = _shift(_exact(product, name), self._bits)
        return result if bias is None else result + bias[:, None, None]

    def _compare(self, node: Node, value: torch.Tensor, factor: int = 1) -> torch.Tensor:
        met = factor * float(value.abs().max()) / 2**FRACTION_BITS
        self.ranges[node.name] = max(self.ranges[node.name], met)
        bits = self._widths.get(node.name, COMPARISON_BITS)
        if met >= range_of(bits):
            limit = f"{range_of(bits):g}, where comparisons on {bits} bits are exact"
            raise ParameterError(f"{node.name}: expected magnitudes below {limit}, got {met:.3g}")
        return value


def _exact(product: torch.Tensor, what: str) -> torch.Tensor:
    """Return the products, or raise `ParameterError` if float64 does not hold them exactly."""
    if float(product.abs().max()) >= _EXACT:
        raise ParameterError(f"{what}: expected products below 2^53, got a larger one")
    return product


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Divide by 2^bits and round to the nearest: the middle of the results of the protocol's random truncation."""
    return torch.floor(value / 2**bits + 0.5)
