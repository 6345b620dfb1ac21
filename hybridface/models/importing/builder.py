"""A layer graph in the making: nodes, shapes and weights so far, whatever format the network comes from."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ModelError
from protocols.errors import ParameterError
from protocols.network.graph import INPUT, Graph, LinearWeights, Node, Shape
from protocols.network.layers import Conv2d, pool_before_relu

__all__ = ["GraphBuilder"]


class GraphBuilder:
    """Collects nodes in the order in which a network computes them.

    Args:
        input_shape: (channels, height, width) or (features,).

    Attributes:
        nodes, shapes, weights: so far; shapes and weights by the node's name.
    """

    def __init__(self, input_shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {INPUT: input_shape}
        self.weights: dict[str, LinearWeights] = {}
        self._sources: dict[Hashable, str] = {}

    @property
    def has_input(self) -> bool:
        """Whether `take_input` was called."""
        return INPUT in self._sources.values()

    def take_input(self, value: Hashable) -> None:
        """Let a value of the format, whatever names it there, be the network's input."""
        self._sources[value] = INPUT

    def add(self, value: Hashable, node: Node) -> None:
        """Append a node, which computes a value of the format.

        Raises:
            ModelError: its inputs' shapes do not fit.
        """
        try:
            shape = node.output_shape(*(self.shapes[name] for name in node.inputs))
        except (ParameterError, ValueError) as error:
            raise ModelError(f"{node.name}: its input does not fit ({error})") from error
        self.nodes.append(node)
        self.shapes[node.name] = shape
        self._sources[value] = node.name

    def alias(self, value: Hashable, other: Hashable) -> None:
        """Let a value be the same as another one."""
        self._sources[value] = self._sources[other]

    def source(self, value: Hashable) -> str:
        """Return the name of the node that computes a value."""
        return self._sources[value]

    def source_of_rank(self, value: Hashable, reader: str, rank: int | None) -> tuple[str, Shape]:
        """Return the name and the shape of the node that computes a value, of the given number of axes.

        Args:
            reader: who reads it, for errors.

        Raises:
            ModelError: it has other axes.
        """
        source = self._sources[value]
        shape = self.shapes[source]
        if rank is not None and len(shape) != rank:
            raise ModelError(f"{reader}: expected an input of {rank} axes per image, got shape {shape}")
        return source, shape

    def convolution(self, name: str) -> Conv2d | None:
        """Return the convolution of that name; None if another node has it."""
        return next((node for node in self.nodes if node.name == name and isinstance(node, Conv2d)), None)

    def keep_weights(self, name: str, weight: Any, bias: Any) -> None:
        """Keep a node's weights, as float64 arrays of its own."""
        copy = np.array(weight, dtype=np.float64)
        self.weights[name] = LinearWeights(copy, None if bias is None else np.array(bias, dtype=np.float64))

    def fold_affine(self, name: str, scale: NDArray[np.float64], shift: NDArray[np.float64] | float) -> None:
        """Change a convolution's weights so that its output, by channel, is scale times what it was, plus shift."""
        old = self.weights[name]
        bias = 0.0 if old.bias is None else old.bias
        self.weights[name] = LinearWeights(old.weight * scale[:, None, None, None], bias * scale + shift)

    def finish(self, name: str) -> Graph:
        """Return the graph, max-pools before ReLUs.

        Args:
            name: of the network, for errors.

        Raises:
            ModelError: the nodes are no graph.
        """
        try:
            return pool_before_relu(Graph(self.shapes[INPUT], tuple(self.nodes)))
        except ParameterError as error:
            raise ModelError(f"cannot build the graph of {name}: {error}") from error
