"""Turn a trained student into the weights of a model file: all affine steps between two squares become one map.

The basis, batch norm and the maps between them are folded in float64. Then the rows of each map are scaled so that
every value before a square peaks at `RANGE` on the training faces. The next map undoes the scaling.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.models.patches import cut
from hybridface.models.patchnet import PatchShape, PatchWeights
from hybridface.train.student import RANGE, Basis, PatchStudent

__all__ = ["fold", "joined", "peak_values", "rescaled"]

_ROWS = 1024

Map = tuple[NDArray[np.float64], NDArray[np.float64]]


def fold(student: PatchStudent, basis: Basis) -> PatchWeights:
    """Return the weights of the network that the student computes in evaluation mode."""
    directions, offset = _array(basis.directions), _array(basis.offset)
    before: Map = directions.T, offset  # (components, inputs), (P, components)
    maps: list[Map] = []
    for layer, norm in zip(student.maps, student.norms, strict=True):
        weight = _array(layer).transpose(0, 2, 1)  # (P, width, before)
        if not maps:
            weight, bias = weight @ before[0], np.einsum("phc,pc->ph", weight, before[1])
        else:
            bias = np.zeros(weight.shape[:2])
        scale, shift = (value.reshape(bias.shape) for value in _affine(norm))
        maps.append((weight * scale[:, :, None], bias * scale + shift))
    scale, shift = _affine(student.last_norm)
    join = _array(student.join)
    return PatchWeights(tuple(maps), (join * scale, _array(student.offset) + join @ shift))


def joined(members: list[PatchWeights]) -> PatchWeights:
    """Return one network whose embedding is the mean of the members' embeddings. Its patches are theirs, in order."""
    maps = tuple(
        (np.concatenate([weight for weight, _ in layers]), np.concatenate([bias for _, bias in layers]))
        for layers in zip(*(member.maps for member in members), strict=True)
    )
    join = np.concatenate([member.join[0] for member in members], 1) / len(members)
    return PatchWeights(maps, (join, np.mean([member.join[1] for member in members], 0)))


def peak_values(weights: PatchWeights, shape: PatchShape, chips: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Return the largest magnitudes (P, width) before every square, over aligned crops (n, 64, 64, 3) uint8."""
    peaks = [np.zeros(bias.shape) for _, bias in weights.maps]
    for start in range(0, len(chips), _ROWS):
        values = cut(torch.from_numpy(np.array(chips[start : start + _ROWS])), shape.patches, shape.contrast).double()
        for peak, (weight, bias) in zip(peaks, weights.maps, strict=True):
            values = torch.einsum("npi,phi->nph", values, torch.from_numpy(weight)) + torch.from_numpy(bias)
            np.maximum(peak, values.abs().amax(0).numpy(), out=peak)
            values = values.square()
    return peaks


def rescaled(weights: PatchWeights, peaks: list[NDArray[np.float64]]) -> PatchWeights:
    """Return an equivalent network in which every value before a square peaks at `RANGE` instead of at `peaks`."""
    maps: list[Map] = []
    undo = np.ones((weights.maps[0][0].shape[0], weights.maps[0][0].shape[2]))
    for (weight, bias), peak in zip(weights.maps, peaks, strict=True):
        scale = RANGE / np.maximum(peak, 1e-3)
        maps.append((weight * undo[:, None, :] * scale[:, :, None], bias * scale))
        undo = scale**-2
    return PatchWeights(tuple(maps), (weights.join[0] * undo.reshape(-1), weights.join[1]))


def _affine(norm: Any) -> Map:
    """Return the scale and the shift of batch norm in evaluation mode."""
    scale = 1 / np.sqrt(_array(norm.running_var) + norm.eps)
    if norm.affine:
        scale = scale * _array(norm.weight)
    shift = -_array(norm.running_mean) * scale
    return scale, shift + _array(norm.bias) if norm.affine else shift


def _array(tensor: Any) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().cpu().double().numpy(), dtype=np.float64)
