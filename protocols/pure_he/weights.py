"""The network that runs under encryption: per patch a few affine maps and squares, then one joining affine map.

    h_0 = x,   h_i[p] = (W_i[p] h_{i-1}[p] + b_i[p])^2  for i = 1 .. k,   e = sum over p of J[p] h_k[p] + c

The network needs no linear term beside a square. A general quadratic a z^2 + b z + c is a square up to affine maps
(completing the square), and the network has affine maps anyway. The shape is public. The weights belong to the server.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = ["PatchNetShape", "PatchNetWeights"]

_MAX_WIDTH, _MAX_PATCHES, _MAX_INPUTS, _MAX_SQUARES = 1 << 10, 1 << 10, 1 << 14, 14


@dataclass(frozen=True)
class PatchNetShape:
    """The public shape of a network.

    Args:
        patches: P, a power of two.
        inputs: numbers per patch.
        widths: features per patch after each square, powers of two; one entry per square.
        dimension: of the embedding, a power of two.
    """

    patches: int
    inputs: int
    widths: tuple[int, ...]
    dimension: int

    def __post_init__(self) -> None:
        powers = (self.patches, self.dimension, *self.widths)
        if not 0 < len(self.widths) <= _MAX_SQUARES or any(n < 1 or n & (n - 1) for n in powers):
            raise ParameterError(f"expected 1 to {_MAX_SQUARES} widths, all sizes powers of two, got {self}")
        if self.patches > _MAX_PATCHES or max(powers[1:]) > _MAX_WIDTH or not 1 <= self.inputs <= _MAX_INPUTS:
            raise ParameterError(
                f"expected at most {_MAX_PATCHES} patches, widths of {_MAX_WIDTH}, {_MAX_INPUTS} inputs, got {self}"
            )

    @property
    def squares(self) -> int:
        """How many squares the network has."""
        return len(self.widths)

    def document(self) -> dict[str, Any]:
        """Return the shape as a JSON object."""
        return {
            "patches": self.patches,
            "inputs": self.inputs,
            "widths": list(self.widths),
            "dimension": self.dimension,
        }


@dataclass(frozen=True, eq=False)
class PatchNetWeights:
    """The weights, float64.

    Args:
        matrices: W_i, of shape (P, out, in), one per square.
        biases: b_i, of shape (P, out).
        join: J, of shape (dimension, P, features).
        constant: c, of shape (dimension,).

    Raises:
        ParameterError: the shapes do not fit together, or a number is not finite.
    """

    matrices: tuple[NDArray[np.float64], ...] = field(repr=False)
    biases: tuple[NDArray[np.float64], ...] = field(repr=False)
    join: NDArray[np.float64] = field(repr=False)
    constant: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        every = (*self.matrices, *self.biases, self.join, self.constant)
        if any(array.dtype != np.float64 or not np.all(np.isfinite(array)) for array in every):
            raise ParameterError("expected finite float64 weights, got others")
        if [array.ndim for array in every] != [3] * len(self.matrices) + [2] * len(self.biases) + [3, 1]:
            raise ParameterError(f"expected matrices (P, out, in) and biases (P, out), got {[a.shape for a in every]}")
        shape, features = self.shape, self.shape.inputs
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            out = matrix.shape[1]
            if matrix.shape != (shape.patches, out, features) or bias.shape != (shape.patches, out):
                raise ParameterError(
                    f"expected a matrix and bias for {shape.patches} patches of {features} features, "
                    f"got {matrix.shape} and {bias.shape}"
                )
            features = out
        if self.join.shape != (shape.dimension, shape.patches, features) or self.constant.shape != (shape.dimension,):
            raise ParameterError(
                f"expected a join of shape {(shape.dimension, shape.patches, features)} and a constant, "
                f"got {self.join.shape} and {self.constant.shape}"
            )

    @property
    def shape(self) -> PatchNetShape:
        """The public shape."""
        if not self.matrices or len(self.matrices) != len(self.biases):
            raise ParameterError(f"expected as many biases as matrices, got {len(self.biases)}, {len(self.matrices)}")
        patches, _, inputs = self.matrices[0].shape
        return PatchNetShape(patches, inputs, tuple(m.shape[1] for m in self.matrices), self.join.shape[0])

    @classmethod
    def random(cls, shape: PatchNetShape, seed: int = 0) -> "PatchNetWeights":
        """Return random weights of a scale that keeps features and embeddings near 1; for tests and measurements."""
        random = np.random.default_rng(seed)
        sizes = [shape.inputs, *shape.widths]
        matrices = tuple(
            random.normal(0, 0.8 / np.sqrt(fan_in), (shape.patches, out, fan_in)) for fan_in, out in pairwise(sizes)
        )
        biases = tuple(random.normal(0, 0.3, (shape.patches, out)) for out in shape.widths)
        fan_in = shape.patches * shape.widths[-1]
        join = random.normal(0, 1 / np.sqrt(fan_in), (shape.dimension, shape.patches, shape.widths[-1]))
        return cls(matrices, biases, join, random.normal(0, 0.1, shape.dimension))

    def embed(self, patches: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the embedding in the clear: patches (..., P, inputs) to (..., dimension)."""
        hidden = patches
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            hidden = (np.einsum("poi,...pi->...po", matrix, hidden, optimize=True) + bias) ** 2
        return np.einsum("dpf,...pf->...d", self.join, hidden, optimize=True) + self.constant
