"""A convolution of uniform 64-bit numbers by known integer weights, exactly, modulo Q.

The server's online half of a private linear layer. The 64-bit values are cut into limbs short enough that torch's
float64 convolution of a limb is exact (every partial sum stays below 2^53), and the limbs' results are joined as
residues.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.errors import ParameterError
from protocols.packing import ConvShape
from protocols.ring import CrtModulus, RingArray

__all__ = ["PlainConvolution", "quantise"]

_EXACT_BITS = 53
_RING_BITS = 64


def quantise(weight: NDArray[np.float64], weight_bits: int) -> NDArray[np.int64]:
    """Round weights to `weight_bits` fractional bits.

    Raises:
        ParameterError: a weight is not finite, or not below 2^(52 - weight_bits).
    """
    scaled = np.rint(np.asarray(weight, dtype=np.float64) * 2.0**weight_bits)
    if not np.all(np.abs(scaled) < 2.0**52):  # also catches nan
        raise ParameterError(f"expected finite weights below 2^{52 - weight_bits}, got one outside")
    return scaled.astype(np.int64)


class PlainConvolution:
    """v -> conv(v - 2^64, w) 2^scale_bits mod Q, where padding counts as zero.

    Args:
        shape: the convolution.
        weight: integers (M, C / groups, kh, kw).
        modulus: Q.
        scale_bits: s.

    Raises:
        ParameterError: the weights are so large that no limb is exact.
    """

    def __init__(self, shape: ConvShape, weight: NDArray[np.int64], modulus: CrtModulus, scale_bits: int) -> None:
        self._shape, self._modulus, self._scale_bits = shape, modulus, scale_bits
        self._weight = torch.from_numpy(weight.astype(np.float64))
        norm = float(np.abs(weight.astype(np.float64)).sum(axis=(1, 2, 3)).max())
        self._limb_bits = min(32, _EXACT_BITS - math.ceil(math.log2(norm + 2)))
        if self._limb_bits < 1:
            raise ParameterError("expected weights whose magnitudes add up to below 2^52 per output, got larger ones")
        ones = torch.ones((1, shape.channels, shape.height, shape.width), dtype=torch.float64)
        offset = modulus.lift_signed(self._convolve(ones), _RING_BITS + scale_bits)
        self._offset = modulus.subtract(np.zeros_like(offset), offset)

    def multiply(self, values: RingArray) -> RingArray:
        """Return the residues (B, M, 2, height_out * width_out) for values (B, C, H, W) in [0, 2^64)."""
        total = self._offset
        mask = np.uint64((1 << self._limb_bits) - 1)
        for start in range(0, _RING_BITS, self._limb_bits):
            limb = torch.from_numpy(((values >> np.uint64(start)) & mask).astype(np.float64))
            part = self._modulus.lift_signed(self._convolve(limb), start + self._scale_bits)
            total = self._modulus.add(total, part)
        return total

    def _convolve(self, values: torch.Tensor) -> NDArray[np.int64]:
        shape = self._shape
        with torch.inference_mode():
            product = torch.nn.functional.conv2d(
                values, self._weight, stride=shape.stride, padding=shape.padding, groups=shape.groups
            )
        return product.numpy().astype(np.int64).reshape(*product.shape[:2], -1)
