"""Load one of the known face networks. Its layer graph is public; only the server needs its weights.

The client loads a model with `weights=False`: it gets the same graph, and the function reads no weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models import DEFAULT_MODEL, check_name
from hybridface.models.dlib_resnet import CHIP_SIZE, DlibResNet
from hybridface.models.dlib_resnet import normalise as dlib_normalise
from hybridface.models.importing.torch_module import graph_from_torch
from hybridface.models.patches import CHIP_SIZE as PATCHNET_CHIP_SIZE
from hybridface.models.patchnet import (
    PATCHNET_PATH,
    PatchNet,
    PatchWeights,
    Ranges,
    read_patchnet,
    read_ranges,
    read_shape,
)
from hybridface.models.ranges import known_widths
from hybridface.models.tiny import TINY_SIZE, tiny_module, tiny_normalise
from protocols.network.graph import Graph, LinearWeights
from protocols.network.widths import Widths
from protocols.pure_he import PatchNetShape, PatchNetWeights

__all__ = ["Model", "load_model"]


_MOST_THRESHOLD = 2**14


@dataclass(frozen=True)
class Model:
    """A face network.

    Args:
        name: one of `hybridface.models.MODELS`.
        graph: the layer graph; public.
        weights: float64 by node name, for the server; None without weights.
        threshold: two images show the same person if the Euclidean distance of their features is below it.
        chip_size: height and width of an aligned crop, in pixels.
        normalise: maps an aligned crop (chip_size, chip_size, 3) uint8 RGB to the graph's input, float64 of the graph's
            `input_shape`.
        module: the network in the clear, in float64, as a reference; None without weights.
        patch_shape: the public shape of a network that can run in pure-HE mode; None for other networks. Its input is
            the graph's, as (P, inputs).
        patch_weights: the weights of that network, for the server; None without weights.
        patch_ranges: the largest magnitudes that were measured; None if the file has none.
        widths: the bits of the network's comparisons by layer, from the ranges that were measured.
    """

    name: str
    graph: Graph
    weights: dict[str, LinearWeights] | None
    threshold: float
    chip_size: int
    normalise: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
    module: torch.nn.Module | None = None
    patch_shape: PatchNetShape | None = None
    patch_weights: PatchNetWeights | None = field(default=None, repr=False)
    patch_ranges: Ranges | None = None
    widths: Widths = field(default_factory=dict)

    def with_threshold(self, threshold: float | None) -> "Model":
        """Return the same network with another threshold; with its own if `threshold` is None.

        Raises:
            ModelError: the threshold is not above 0 and below 2^14.
        """
        if threshold is None:
            return self
        if not 0 < threshold < _MOST_THRESHOLD:
            raise ModelError(f"expected a threshold above 0 and below {_MOST_THRESHOLD}, got {threshold:g}")
        return replace(self, threshold=threshold)


def load_model(name: str = DEFAULT_MODEL, weights: bool = True, path: str | Path | None = None) -> Model:
    """Return a model by name.

    Args:
        name: one of `hybridface.models.MODELS`. "tiny-test" is a small random network for tests; it recognises nobody.
        weights: whether to read the weights (server) or only the graph (client).
        path: the network's file. For dlib-resnet29, the default is the file of the package face_recognition_models. For
            patchnet, it is the file that is shipped; from a patch network's file, the client reads only the public
            part. tiny-test has no file.

    Raises:
        ModelError: the name is unknown, or the file cannot be read.
    """
    check_name(name)
    module: torch.nn.Module
    if name == "patchnet":
        return _patchnet(weights, PATCHNET_PATH if path is None else path)
    if name == "dlib-resnet29":
        module = DlibResNet.from_dat(path) if weights else DlibResNet(device="meta")
        size, normalise = CHIP_SIZE, dlib_normalise
    elif name == "tiny-test" and path is not None:
        raise ModelError(f"expected no weight file for tiny-test, got {path}")
    else:
        module = tiny_module(weights)
        size, normalise = TINY_SIZE, tiny_normalise
    graph, values = graph_from_torch(module, (3, size, size))
    widths = known_widths(name, graph) if path is None else {}
    return Model(
        name, graph, values if weights else None, 0.6, size, normalise, module if weights else None, widths=widths
    )


def _patchnet(weights: bool, path: str | Path) -> Model:
    if weights:
        shape, values = read_patchnet(path)
        module = PatchNet.from_weights(shape, values)
    else:
        shape = read_shape(path)
        module = PatchNet(shape, device="meta")
    graph, by_node = graph_from_torch(module, (len(shape.patches) * shape.inputs, 1, 1))
    size, threshold = PATCHNET_CHIP_SIZE, float(np.sqrt(shape.threshold))
    public = "patchnet", graph, by_node if weights else None, threshold, size, shape.normalise
    patches = PatchNetShape(len(shape.patches), shape.inputs, shape.widths, shape.outputs)
    return Model(
        *public, module if weights else None, patches, _patch_weights(values) if weights else None, read_ranges(path)
    )


def _patch_weights(weights: PatchWeights) -> PatchNetWeights:
    matrices, biases = zip(*weights.maps, strict=True)
    join, constant = weights.join
    patches, width, _ = matrices[-1].shape
    return PatchNetWeights(matrices, biases, join.reshape(-1, patches, width), constant)
