"""Exact convolution of uniform 64-bit numbers with known integer weights, modulo Q.

This is the server's online half of a private linear layer. It cuts the 64-bit values into limbs so short that torch's
float64 convolution of a limb is exact: every partial sum stays below 2^53. It joins the limbs' results as residues. A
fully connected layer may be large. Such a layer is a product of 32-bit weights with two limbs of 32 bits, in one pass
over the weights.
"""

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.arithmetic import kernels
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.residues import CrtModulus
from protocols.errors import ParameterError
from protocols.linear.packing import ConvShape

__all__ = ["PRODUCT_BOUND", "PlainConvolution", "PlainProduct", "plain_convolution", "quantise"]

PRODUCT_BOUND = 1 << 30
"""Bound on the sum of the magnitudes of a `PlainProduct`'s weights for one output."""

_EXACT_BITS = 53
_RING_BITS = 64
_LIMB_BITS, _LIMB_MASK = np.uint64(32), np.uint64(2**32 - 1)


Reals = NDArray[np.float64]
Integers = NDArray[np.int64] | NDArray[np.int32]


def quantise(weight: Reals | Integers, weight_bits: int) -> Integers:
    """Round weights to `weight_bits` fractional bits; return integers as they are, since they are rounded already.

    Raises:
        ParameterError: a weight is not finite, or its magnitude is not below 2^(52 - weight_bits).
    """
    if np.issubdtype(weight.dtype, np.integer):
        return cast(Integers, weight)
    scaled = np.rint(np.asarray(weight, dtype=np.float64) * 2.0**weight_bits)
    if not np.all(np.abs(scaled) < 2.0**52):  # also catches nan
        raise ParameterError(f"expected finite weights below 2^{52 - weight_bits}, got one outside")
    return scaled.astype(np.int64)


def plain_convolution(
    shape: ConvShape, weight: Integers, modulus: CrtModulus, scale_bits: int
) -> "PlainConvolution | PlainProduct":
    """Return an object that computes v -> conv(v - 2^64, w) 2^scale_bits mod Q.

    It is a `PlainProduct` if the layer is fully connected and its weights are small enough, else a `PlainConvolution`.
    """
    sizes = shape.height, shape.width, shape.height_out, shape.width_out, *shape.kernel, shape.groups
    fits = set(sizes) == {1} and _largest(weight) * shape.channels < PRODUCT_BOUND
    return (PlainProduct if fits else PlainConvolution)(shape, weight, modulus, scale_bits)


def _largest(weight: Integers) -> int:
    return max(-int(weight.min()), int(weight.max()))


class PlainProduct:
    """Computes v -> W (v - 2^64) 2^scale_bits mod Q for a fully connected layer.

    Args:
        shape: of one pixel, with a kernel of one.
        weight: integers (M, C, 1, 1); C times the largest magnitude is below PRODUCT_BOUND.
        modulus: Q.
        scale_bits: s.
    """

    def __init__(self, shape: ConvShape, weight: Integers, modulus: CrtModulus, scale_bits: int) -> None:
        self._modulus, self._scale_bits = modulus, scale_bits
        self._weight = np.ascontiguousarray(weight.reshape(shape.channels_out, shape.channels), dtype=np.int32)
        self._sums = self._weight.sum(axis=1, dtype=np.int64)

    def multiply(self, values: RingArray) -> RingArray:
        """Return the residues (B, M, 2, 1) for values (B, C, 1, 1) in [0, 2^64)."""
        result = np.empty((len(values), len(self._weight), 2, 1), dtype=np.uint64)
        limbs = np.empty((2, len(self._weight)), dtype=np.int64)
        for value, residues in zip(values.reshape(len(values), -1), result, strict=True):
            low, high = value & _LIMB_MASK, value >> _LIMB_BITS
            kernels.multiply_limbs(self._weight, low.view(np.int64), high.view(np.int64), limbs)
            limbs[1] -= self._sums << np.int64(32)  # 2^64 w is 2^32 w in the upper limb
            lower, upper = (
                self._modulus.lift_signed(limb[:, None], bits + self._scale_bits)
                for limb, bits in zip(limbs, (0, 32), strict=True)
            )
            residues[:] = self._modulus.add(lower, upper)
        return result


class PlainConvolution:
    """Computes v -> conv(v - 2^64, w) 2^scale_bits mod Q, where padding counts as zero.

    Args:
        shape: the convolution.
        weight: integers (M, C / groups, kh, kw).
        modulus: Q.
        scale_bits: s.

    Raises:
        ParameterError: the weights are so large that no limb is exact.
    """

    def __init__(self, shape: ConvShape, weight: Integers, modulus: CrtModulus, scale_bits: int) -> None:
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
