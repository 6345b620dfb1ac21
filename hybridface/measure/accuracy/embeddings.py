"""Compute embeddings of aligned faces, once per photo: by the network in float64, or by the bit-exact emulator.

The embeddings are kept beside the faces, in a folder whose name has a digest of everything on which they depend. This
includes the weights, and the emulator's result for a fixed face. So a change of either makes new embeddings. Embeddings
are biometric data, just like the faces.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.faces.alignment import Aligned
from hybridface.faces.rows import RowField, Rows, Values, fill
from hybridface.models.model import Model, load_model
from protocols.arithmetic.fixed_point import decode
from protocols.network.emulator import Emulator

__all__ = ["Arithmetic", "Embeddings", "Network", "embed"]


class Arithmetic(StrEnum):
    """How an embedding is computed."""

    PLAIN = "plain"
    EMULATED = "emulated"


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the photos of an `Aligned`. Rows that `embed` was not asked for have arbitrary values.

    Args:
        values: float64 (n, d).
        largest: float64 (n,), the largest magnitude at a comparison in the emulator; 0 without the emulator.
    """

    values: NDArray[np.float64]
    largest: NDArray[np.float64]

    def distances(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the Euclidean distances between the rows `first` and the rows `second`, pair by pair."""
        difference: NDArray[np.float64] = self.values[first] - self.values[second]
        return np.sqrt(np.square(difference).sum(1))


class Network:
    """A model that embeds aligned crops one at a time, so that no result depends on the other crops.

    Args:
        model: a model with weights.

    Raises:
        ModelError: the model has no weights.
    """

    def __init__(self, model: Model) -> None:
        if model.module is None or model.weights is None:
            raise ModelError(f"expected a model with weights, got {model.name} without")
        self.model, self._module = model, model.module
        self._emulator = Emulator(model.graph, model.weights, widths=model.widths)

    def plain(self, chip: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the embedding (d,) in float64."""
        with torch.inference_mode():
            output: Any = self._module(torch.from_numpy(self.model.normalise(chip)[None]))
        return np.asarray(output[0].numpy(), dtype=np.float64)

    def emulated(self, chip: NDArray[np.uint8]) -> tuple[NDArray[np.int64], float]:
        """Return the embedding (d,) as integers at 16 fractional bits, and the largest magnitude at a comparison."""
        return self._emulate(chip), self._emulator.largest

    def ranges(self, chip: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the largest magnitude at each comparing layer, (layers,)."""
        self._emulate(chip)
        return np.array(list(self._emulator.ranges.values()))

    def _emulate(self, chip: NDArray[np.uint8]) -> NDArray[np.int64]:
        self._emulator.ranges.update(dict.fromkeys(self._emulator.ranges, 0.0))
        return self._emulator.run(self.model.normalise(chip)[None])[0]

    def digest(self) -> str:
        """Return a digest of the graph, the weights, the normalisation and the emulator."""
        model = self.model
        digest = hashlib.sha256(model.graph.digest().encode())
        for name, weights in sorted((model.weights or {}).items()):
            digest.update(name.encode())
            for array in (weights.weight, weights.bias):
                digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        face = np.random.default_rng(0).integers(0, 256, (model.chip_size, model.chip_size, 3), dtype=np.uint8)
        digest.update(np.ascontiguousarray(model.normalise(face)).tobytes())
        unchecked = Emulator(model.graph, model.weights or {})  # no widths: noise may exceed a face's ranges
        digest.update(unchecked.run(model.normalise(face)[None])[0].tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Embedder:
    """Computes the row of an aligned crop. A worker process loads the model by its name, once."""

    name: str
    arithmetic: Arithmetic
    network: Network | None = field(default=None, compare=False)

    def __call__(self, chip: NDArray[np.uint8]) -> Values:
        network = self.network or _loaded(self.name)
        if self.arithmetic is Arithmetic.PLAIN:
            return {"values": network.plain(chip), "largest": 0.0}
        values, largest = network.emulated(chip)
        return {"values": values, "largest": largest}


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> Network:
    return Network(load_model(name))


def embed(
    network: Network,
    aligned: Aligned,
    rows: NDArray[np.int64],
    arithmetic: Arithmetic,
    workers: int = 2,
    shown: bool = True,
) -> Embeddings:
    """Return the embeddings of these rows' photos. Compute those that are not kept beside the faces yet."""
    kind = "int64" if arithmetic is Arithmetic.EMULATED else "float64"
    size = network.model.graph.output_shape
    fields = {"values": RowField(kind, size), "largest": RowField("float64")}
    folder = aligned.folder / f"{network.model.name}-{network.digest()[:16]}-{arithmetic}"
    stored = Rows(folder, len(aligned.photos), fields)
    work = _Embedder(network.model.name, arithmetic, network if workers == 1 else None)
    fill(stored, rows, lambda row: np.array(aligned.chips[0][row]), work, workers, f"{arithmetic} embeddings", shown)
    values = np.array(stored["values"])
    if arithmetic is Arithmetic.EMULATED:
        values = decode(values.view(np.uint64))
    return Embeddings(values.astype(np.float64), np.array(stored["largest"]))
