"""Define the patch network in the form in which it learns, with one map per patch.

**Inputs.** The student expresses each patch's values in the principal components of patches, scaled towards equal
variance. This map is affine and fixed.

**Batch norm** stands before every square. It is an affine map too, once training ends. `export` folds both affine maps
into the maps around them. With its bias, batch norm and the square after it act as a trained activation
a x^2 + b x + c.

**Maps.** A patch's map is the sum of a map of its own and a map that all patches share. Only the sum counts in the end,
but a sum learns better: an edge looks the same everywhere, so the examples of every patch teach the shared map.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.models.patches import cut

__all__ = ["RANGE", "Basis", "PatchStudent", "Patches", "fit_basis"]

RANGE = 4.0
"""Training penalises values before a square whose magnitude is above this, because ciphertexts have little room."""

_CURVATURE = 0.5
_WHITENING = 0.7
_ROWS = 1024

Patches = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Basis:
    """Principal components of patches: a patch x has the coefficients x @ directions + offset.

    Args:
        patches: see `PatchShape`.
        directions: float32 tensor (inputs, components), the same for all patches.
        offset: float32 tensor (P, components).
        contrast: see `PatchShape`.
    """

    patches: Patches
    directions: Any
    offset: Any
    contrast: bool

    def coefficients(self, chips: NDArray[np.uint8]) -> Any:
        """Return the coefficients, bfloat16 (n, P, components), of aligned crops (n, 64, 64, 3) uint8."""
        count, components = self.offset.shape
        result = torch.empty(len(chips), count, components, dtype=torch.bfloat16)
        for start in range(0, len(chips), _ROWS):
            rows = slice(start, start + _ROWS)
            values = cut(torch.from_numpy(np.array(chips[rows])), self.patches, self.contrast)
            result[rows] = torch.einsum("npi,ic->npc", values, self.directions) + self.offset
        return result


def fit_basis(chips: NDArray[np.uint8], patches: Patches, components: int, contrast: bool = True) -> Basis:
    """Return the strongest principal components of all patches together, in aligned crops (n, 64, 64, 3) uint8."""
    values = cut(torch.from_numpy(np.array(chips)), patches, contrast)
    mean = values.mean(0)
    centred = (values - mean).flatten(0, 1)
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    vectors = vectors.flip(1)[:, :components]
    deviations = variances.flip(0)[:components].clamp(min=1e-6).sqrt()
    scale = deviations**-_WHITENING
    directions = vectors * (scale / (scale * deviations).square().mean().sqrt())
    return Basis(patches, directions.contiguous(), -(mean @ directions), contrast)


class PatchStudent(torch.nn.Module):  # type: ignore[misc]
    """A network that maps each patch's coefficients and sums the results over the patches.

    Batch norm and a square follow every map. Every map is the sum of a map of the patch's own, in `own`, and a map that
    all patches share, in `shared`.

    Args:
        patches, components: inputs are (batch, patches, components).
        widths: the number of values per patch after every square.
        outputs: the number of elements of the embedding.
        seed: the seed of the initial weights.
    """

    def __init__(self, patches: int, components: int, widths: tuple[int, ...], outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, deviation: float) -> Any:
            return torch.nn.Parameter(torch.randn(shape, generator=generator) * deviation)

        befores = (components, *widths[:-1])
        self.own, self.shared = (
            torch.nn.ParameterList(
                [
                    normal(count, before, width, deviation=(2 * before) ** -0.5)
                    for before, width in zip(befores, widths, strict=True)
                ]
            )
            for count in (patches, 1)
        )
        self.norms = torch.nn.ModuleList([torch.nn.BatchNorm1d(patches * width) for width in widths])
        for norm in self.norms:
            torch.nn.init.constant_(norm.weight, _CURVATURE)
            torch.nn.init.constant_(norm.bias, 1.0)
        last = patches * widths[-1]
        self.last_norm = torch.nn.BatchNorm1d(last, affine=False)
        self.join = normal(outputs, last, deviation=0.3 * (outputs * last) ** -0.5)
        self.offset = torch.nn.Parameter(torch.zeros(outputs))

    @property
    def maps(self) -> list[Any]:
        """The maps (P, values before, width), one for each square."""
        return [own + shared for own, shared in zip(self.own, self.shared, strict=True)]

    def forward(self, coefficients: Any) -> tuple[Any, list[Any]]:
        """Return embeddings (batch, outputs) of coefficients (batch, P, components), and the values before squares."""
        batch, patches, _ = coefficients.shape
        values, before_squares = coefficients.transpose(0, 1), []
        for weight, norm in zip(self.maps, self.norms, strict=True):
            flat = norm(torch.bmm(values, weight).transpose(0, 1).reshape(batch, -1))
            before_squares.append(flat)
            values = flat.square().reshape(batch, patches, -1).transpose(0, 1)
        joined = self.last_norm(values.transpose(0, 1).reshape(batch, -1))
        return joined @ self.join.T + self.offset, before_squares

    def groups(self, decay: float) -> list[dict[str, Any]]:
        """Return the parameters for an optimiser, with weight decay for the maps and none for norms and biases."""
        maps = [*self.own, *self.shared, self.join]
        others = [value for norm in self.norms for value in norm.parameters()]
        return [{"params": maps, "weight_decay": decay}, {"params": [*others, self.offset], "weight_decay": 0.0}]
