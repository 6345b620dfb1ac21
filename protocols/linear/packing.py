"""Coefficient packing: where every number of a convolution goes in a polynomial.

Take an input of A = H W (padded) pixels, Cw input channels in one ciphertext and Mw output channels in one product,
with Cw Mw A <= N:

    input   x[c, i, j]      at  c A + i W + j
    weight  w[m, c, a, b]   at  m Cw A + O - c A - a W - b,     O = A (Cw - 1) + W (kh - 1) + (kw - 1)
    output  y[m, i, j]      at  m Cw A + O + i W + j

The product of the polynomials then holds y. The index of a term x[c, i+a', j+b'] w[m, c', a, b] equals an output index
only if c = c' and (a', b') = (a, b). Terms that wrap around X^N + 1 land below O, where nothing is read (Cheetah,
USENIX Security 2022, section 3.2; Kim et al., TIFS 2023).

A plan removes strides first. It splits the image into its phases (stride^2 as many channels, a smaller kernel), so that
no output is computed and thrown away. It cuts images larger than a polynomial into tiles with a halo. All tiles share
the weight polynomials.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError

__all__ = ["ConvPlan", "ConvShape"]


@dataclass(frozen=True)
class ConvShape:
    """The public shape of a convolution: (channels, height, width) to (channels_out, height_out, width_out)."""

    channels: int
    height: int
    width: int
    channels_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        if min(self.channels, self.channels_out, self.groups, *self.kernel, *self.stride) < 1 or min(self.padding) < 0:
            raise ParameterError(f"expected positive sizes and padding >= 0, got {self}")
        if self.channels % self.groups or self.channels_out % self.groups:
            raise ParameterError(f"expected groups that divide the channels, got {self}")
        if min(self.height_out, self.width_out) < 1:
            raise ParameterError(f"expected a kernel no larger than the padded image, got {self}")

    @property
    def height_out(self) -> int:
        """Rows of the output."""
        return (self.height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1

    @property
    def width_out(self) -> int:
        """Columns of the output."""
        return (self.width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1

    @property
    def phases(self) -> tuple[int, int]:
        """Number of phases per axis that a kernel tap falls in: min(stride, kernel)."""
        return min(self.stride[0], self.kernel[0]), min(self.stride[1], self.kernel[1])

    @property
    def phase_kernel(self) -> tuple[int, int]:
        """The kernel's size within one phase."""
        return -(-self.kernel[0] // self.stride[0]), -(-self.kernel[1] // self.stride[1])

    @property
    def phase_channels(self) -> int:
        """Input channels after the split into phases, ordered (channel, row phase, column phase)."""
        return self.channels * self.phases[0] * self.phases[1]


@dataclass(frozen=True)
class ConvPlan:
    """A packing of one convolution.

    Args:
        shape: the convolution.
        block_in: Cw, input channels (after the phase split) in one ciphertext.
        block_out: Mw, output channels in one product.
        tile: rows and columns of the output computed from one ciphertext.
        degree: N.

    Raises:
        ParameterError: the blocks do not fit a polynomial.
    """

    shape: ConvShape
    block_in: int
    block_out: int
    tile: tuple[int, int]
    degree: int = 4096

    def __post_init__(self) -> None:
        if min(self.block_in, self.block_out, *self.tile) < 1:
            raise ParameterError(f"expected positive blocks and tiles, got {self}")
        if self.block_in * self.block_out * self.area > self.degree:
            used = f"{self.block_in} x {self.block_out} x {self.area}"
            raise ParameterError(f"expected blocks of at most {self.degree} coefficients, got {used}")
        if self.tile[0] > self.shape.height_out or self.tile[1] > self.shape.width_out:
            raise ParameterError(f"expected tiles within {self.shape.height_out} x {self.shape.width_out}, got {self}")

    @property
    def tile_in(self) -> tuple[int, int]:
        """Rows and columns of input (within a phase) that one tile of output needs: the tile and its halo."""
        kernel = self.shape.phase_kernel
        return self.tile[0] + kernel[0] - 1, self.tile[1] + kernel[1] - 1

    @property
    def area(self) -> int:
        """A, the coefficients of one channel of a tile."""
        return self.tile_in[0] * self.tile_in[1]

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles down and across."""
        return -(-self.shape.height_out // self.tile[0]), -(-self.shape.width_out // self.tile[1])

    @property
    def tile_count(self) -> int:
        """Tiles in all."""
        return self.tiles[0] * self.tiles[1]

    @property
    def groups_in(self) -> int:
        """Ciphertexts sent per tile."""
        return -(-self.shape.phase_channels // self.block_in)

    @property
    def groups_out(self) -> int:
        """Ciphertexts returned per tile."""
        return -(-self.shape.channels_out // self.block_out)

    @property
    def offset(self) -> int:
        """O, the coefficient of the first output."""
        kernel = self.shape.phase_kernel
        return self.area * (self.block_in - 1) + self.tile_in[1] * (kernel[0] - 1) + kernel[1] - 1

    @cached_property
    def output_indices(self) -> NDArray[np.int64]:
        """The coefficients of a returned ciphertext that carry outputs, ordered (m, row, column)."""
        m = np.arange(self.block_out)[:, None, None] * (self.block_in * self.area)
        i = np.arange(self.tile[0])[None, :, None] * self.tile_in[1]
        j = np.arange(self.tile[1])[None, None, :]
        return (m + i + j + self.offset).ravel()

    def blocks(self) -> list[tuple[int, int]]:
        """Return the (output group, input group) pairs that share a channel group, and so need a product."""
        shape = self.shape
        phases = shape.phases[0] * shape.phases[1]
        group_in, group_out = shape.channels // shape.groups, shape.channels_out // shape.groups
        pairs = []
        for g_out in range(self.groups_out):
            first, last = g_out * self.block_out, min((g_out + 1) * self.block_out, shape.channels_out) - 1
            low, high = first // group_out * group_in * phases, (last // group_out + 1) * group_in * phases
            pairs += [(g_out, g_in) for g_in in range(low // self.block_in, -(-high // self.block_in))]
        return pairs

    def pack_inputs(self, images: RingArray) -> RingArray:
        """Place images (B, C, H, W), any 64-bit dtype, in polynomials (B * tiles, groups_in, N); the rest is zero."""
        shape, (rows, columns) = self.shape, self.tiles
        batch = images.shape[0]
        if images.shape[1:] != (shape.channels, shape.height, shape.width):
            raise ParameterError(
                f"expected images {(shape.channels, shape.height, shape.width)}, got {images.shape[1:]}"
            )
        phased = self._split_phases(images)
        groups = np.zeros((batch, rows, columns, self.groups_in * self.block_in, *self.tile_in), dtype=images.dtype)
        for r in range(rows):
            for c in range(columns):
                top, left = r * self.tile[0], c * self.tile[1]
                part = phased[:, :, top : top + self.tile_in[0], left : left + self.tile_in[1]]
                groups[:, r, c, : part.shape[1], : part.shape[2], : part.shape[3]] = part
        polynomials = np.zeros((batch * self.tile_count, self.groups_in, self.degree), dtype=images.dtype)
        polynomials[..., : self.block_in * self.area] = groups.reshape(batch * self.tile_count, self.groups_in, -1)
        return polynomials

    def _split_phases(self, images: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the zero-padded images (B, C, H, W) as phases (B, C * phases, rows, columns)."""
        shape = self.shape
        (ph, pw), (sh, sw), (kh, kw) = shape.phases, shape.stride, shape.phase_kernel
        height, width = shape.height_out + kh - 1, shape.width_out + kw - 1
        padded = np.zeros((*images.shape[:2], height * sh, width * sw), dtype=images.dtype)
        top, left = shape.padding
        h, w = min(shape.height, height * sh - top), min(shape.width, width * sw - left)
        padded[:, :, top : top + h, left : left + w] = images[:, :, :h, :w]
        split = padded.reshape(*images.shape[:2], height, sh, width, sw)[:, :, :, :ph, :, :pw]
        return split.transpose(0, 1, 3, 5, 2, 4).reshape(images.shape[0], -1, height, width)

    def pack_weights(self, weight: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.int64]:
        """Place integer weights (M, C / groups, kh, kw) in polynomials (products, N), in the order of `blocks()`."""
        shape = self.shape
        expected = shape.channels_out, shape.channels // shape.groups, *shape.kernel
        if weight.shape != expected:
            raise ParameterError(f"expected weights {expected}, got {weight.shape}")
        width = self.tile_in[1]
        kh, kw = shape.phase_kernel
        m = np.arange(self.block_out)[:, None, None, None] * (self.block_in * self.area)
        c = np.arange(self.block_in)[None, :, None, None] * self.area
        a, b = np.arange(kh)[None, None, :, None] * width, np.arange(kw)[None, None, None, :]
        index = m + self.offset - c - a - b
        blocks = self.blocks()
        polynomials = np.zeros((len(blocks), self.degree), dtype=np.int64)
        for polynomial, (g_out, g_in) in zip(polynomials, blocks, strict=True):
            block = self._phase_weights(
                weight,
                range(g_out * self.block_out, min((g_out + 1) * self.block_out, shape.channels_out)),
                range(g_in * self.block_in, min((g_in + 1) * self.block_in, shape.channels * math.prod(shape.phases))),
            )
            polynomial[index[: block.shape[0], : block.shape[1]]] = block
        return polynomials

    def _phase_weights(
        self, weight: NDArray[np.int64] | NDArray[np.int32], outputs: range, inputs: range
    ) -> NDArray[np.int64]:
        """Return the weights of some outputs and phases, a slice of (M, C * phases, phase kernel rows, columns).

        Weights across channel groups are zero. All weights of a layer with many groups at once would be large.
        """
        shape = self.shape
        (ph, pw), (sh, sw), (kh, kw) = shape.phases, shape.stride, shape.phase_kernel
        group_in, group_out = shape.channels // shape.groups, shape.channels_out // shape.groups
        first, last = inputs.start // (ph * pw), -(-inputs.stop // (ph * pw))
        full = np.zeros((len(outputs), last - first, kh * sh, kw * sw), dtype=np.int64)
        for g in range(outputs.start // group_out, -(-outputs.stop // group_out)):
            rows = range(max(outputs.start, g * group_out), min(outputs.stop, (g + 1) * group_out))
            channels = range(max(first, g * group_in), min(last, (g + 1) * group_in))
            if len(channels):
                place = full[rows.start - outputs.start :, channels.start - first :]
                own = slice(channels.start - g * group_in, channels.stop - g * group_in)
                place[: len(rows), : len(channels), : shape.kernel[0], : shape.kernel[1]] = weight[
                    rows.start : rows.stop, own
                ]
        split = full.reshape(len(outputs), last - first, kh, sh, kw, sw)[:, :, :, :ph, :, :pw]
        phases = split.transpose(0, 1, 3, 5, 2, 4).reshape(len(outputs), -1, kh, kw)
        return phases[:, inputs.start - first * ph * pw :][:, : len(inputs)]

    def unpack_outputs(self, values: RingArray) -> RingArray:
        """Assemble outputs (B * tiles, groups_out, len(output_indices)) into images (B, M, height_out, width_out)."""
        shape, (rows, columns), (th, tw) = self.shape, self.tiles, self.tile
        batch = values.shape[0] // self.tile_count
        tiles = values.reshape(batch, rows, columns, self.groups_out * self.block_out, th, tw)
        image = tiles.transpose(0, 3, 1, 4, 2, 5).reshape(batch, -1, rows * th, columns * tw)
        return np.ascontiguousarray(image[:, : shape.channels_out, : shape.height_out, : shape.width_out])
