"""Build a layer graph node by node, from a network in any format."""

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

    The methods name a tensor by a `value`: any hashable object of the network's format, such as a torch.fx node.

    Args:
        input_shape: (channels, height, width) or (features,).

    Attributes:
        nodes: the nodes so far.
        shapes, weights: the shapes and weights so far, by the node's name.
    """

    def __init__(self, input_shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {INPUT: input_shape}
        self.weights: dict[str, LinearWeights] = {}
        self._sources: dict[Hashable, str] = {}

    @property
    def has_input(self) -> bool:
        """Whether a value is the network's input already."""
        return INPUT in self._sources.values()

    def take_input(self, value: Hashable) -> None:
        """Make a value the network's input."""
        self._sources[value] = INPUT

    def add(self, value: Hashable, node: Node) -> None:
        """Append a node that computes a value.

        Raises:
            ModelError: the shapes of the node's inputs do not fit.
        """
        try:
            shape = node.output_shape(*(self.shapes[name] for name in node.inputs))
        except (ParameterError, ValueError) as error:
            raise ModelError(f"{node.name}: its input does not fit ({error})") from error
        self.nodes.append(node)
        self.shapes[node.name] = shape
        self._sources[value] = node.name

    def alias(self, value: Hashable, other: Hashable) -> None:
        """Make a value the same as another one."""
        self._sources[value] = self._sources[other]

    def source(self, value: Hashable) -> str:
        """Return the name of the node that computes a value."""
        return self._sources[value]

    def source_of_rank(self, value: Hashable, reader: str, rank: int | None) -> tuple[str, Shape]:
        """Return the name and the shape of the node that computes a value. Check its number of axes.

        Args:
            reader: the name of the node that reads the value, for error messages.
            rank: the expected number of axes; None for any number.

        Raises:
            ModelError: the value has another number of axes.
        """
        source = self._sources[value]
        shape = self.shapes[source]
        if rank is not None and len(shape) != rank:
            raise ModelError(f"{reader}: expected an input of {rank} axes per image, got shape {shape}")
        return source, shape

    def convolution(self, name: str) -> Conv2d | None:
        """Return the convolution of that name; None if there is none."""
        return next((node for node in self.nodes if node.name == name and isinstance(node, Conv2d)), None)

    def keep_weights(self, name: str, weight: Any, bias: Any) -> None:
        """Keep a node's weights, as float64 copies."""
        copy = np.array(weight, dtype=np.float64)
        self.weights[name] = LinearWeights(copy, None if bias is None else np.array(bias, dtype=np.float64))

    def fold_affine(self, name: str, scale: NDArray[np.float64], shift: NDArray[np.float64] | float) -> None:
        """Change a convolution's weights so that it returns scale times its old output, plus shift, by channel."""
        old = self.weights[name]
        bias = 0.0 if old.bias is None else old.bias
        self.weights[name] = LinearWeights(old.weight * scale[:, None, None, None], bias * scale + shift)

    def finish(self, name: str) -> Graph:
        """Return the graph, with max-pools moved before ReLUs.

        Args:
            name: the network's name, for error messages.

        Raises:
            ModelError: the nodes do not form a graph.
        """
        try:
            return pool_before_relu(Graph(self.shapes[INPUT], tuple(self.nodes)))
        except ParameterError as error:
            raise ModelError(f"cannot build the graph of {name}: {error}") from error
