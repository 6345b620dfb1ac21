"""A network as data: a typed layer graph that the protocols and the emulator walk.

The graph is public: both parties hold it, and compare its digest. Weights are not in it: they are a separate mapping
that only the server holds (`Weights`). Nodes are in topological order; every node names its inputs; shapes are per
image, (channels, height, width) or (features,).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = [
    "Add",
    "AvgPool2d",
    "Conv2d",
    "Flatten",
    "Graph",
    "LinearWeights",
    "MaxPool2d",
    "Node",
    "PReLU",
    "Pad",
    "ReLU",
    "Shape",
    "Square",
    "Weights",
    "pool_before_relu",
]

Shape = tuple[int, ...]
INPUT = "input"
"""The name by which nodes refer to the network's input."""


@dataclass(frozen=True)
class LinearWeights:
    """The server's weights of one node, float64.

    Args:
        weight: convolution (out, in / groups, kh, kw); fully connected (out, in); PReLU (channels,).
        bias: (out,), or None.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None = None


Weights = Mapping[str, LinearWeights]
"""Weights by node name. Held by the server alone."""


@dataclass(frozen=True)
class Node:
    """A layer: its name and the names of the nodes it reads."""

    name: str
    inputs: tuple[str, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the output for the shapes of the inputs."""
        return shapes[0]


@dataclass(frozen=True)
class Conv2d(Node):
    """Convolution (cross-correlation, as torch does) with symmetric zero padding, private weights.

    A fully connected layer is the convolution of a 1x1 image with a 1x1 kernel; its input may be (features,).
    """

    channels_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    flat: bool = False  # a fully connected layer: input and output are (features,)

    def output_shape(self, *shapes: Shape) -> Shape:
        if self.flat:
            return (self.channels_out,)
        channels, height, width = shapes[0]
        if channels % self.groups or self.channels_out % self.groups:
            raise ParameterError(f"{self.name}: {channels} and {self.channels_out} channels in {self.groups} groups")
        return (self.channels_out, *_window((height, width), self.kernel, self.stride, self.padding))


@dataclass(frozen=True)
class ReLU(Node):
    """max(x, 0), exactly."""


@dataclass(frozen=True)
class PReLU(Node):
    """max(x, 0) + a min(x, 0), with one private slope a per channel."""


@dataclass(frozen=True)
class Square(Node):
    """x^2."""


@dataclass(frozen=True)
class MaxPool2d(Node):
    """Maximum over windows; padding never wins."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, height, width = shapes[0]
        return (channels, *_window((height, width), self.kernel, self.stride, self.padding))


@dataclass(frozen=True)
class AvgPool2d(Node):
    """Mean over windows without padding; a kernel of (0, 0) is the whole image."""

    kernel: tuple[int, int]
    stride: tuple[int, int]

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, height, width = shapes[0]
        kernel = self.kernel if self.kernel != (0, 0) else (height, width)
        return (channels, *_window((height, width), kernel, self.stride, (0, 0)))


@dataclass(frozen=True)
class Add(Node):
    """Sum of two inputs of the same shape."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise ParameterError(f"{self.name}: expected two inputs of one shape, got {shapes}")
        return shapes[0]


@dataclass(frozen=True)
class Pad(Node):
    """Zeros after the last channel, below, and to the right (`amount`); negative amounts are refused."""

    amount: tuple[int, int, int]

    def output_shape(self, *shapes: Shape) -> Shape:
        if min(self.amount) < 0:
            raise ParameterError(f"{self.name}: expected amounts >= 0, got {self.amount}")
        channels, height, width = shapes[0]
        return (channels + self.amount[0], height + self.amount[1], width + self.amount[2])


@dataclass(frozen=True)
class Flatten(Node):
    """All axes into one, row-major."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return (int(np.prod(shapes[0])),)


@dataclass(frozen=True)
class Graph:
    """A network: the input's shape and the nodes in topological order; the last node is the output.

    Raises:
        ParameterError: a name occurs twice, an input is unknown, or shapes do not fit.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ParameterError("expected a graph of at least one node, got none")
        self.shapes()

    def shapes(self) -> dict[str, Shape]:
        """Return the output shape of every node, by name."""
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            if node.name in shapes:
                raise ParameterError(f"expected unique node names, got {node.name!r} twice")
            unknown = [name for name in node.inputs if name not in shapes]
            if unknown:
                raise ParameterError(f"{node.name}: expected inputs defined earlier, got {unknown}")
            _check_axes(node, [shapes[name] for name in node.inputs])
            shape = node.output_shape(*(shapes[name] for name in node.inputs))
            if min(shape) < 1:
                raise ParameterError(f"{node.name}: the output would have shape {shape}")
            shapes[node.name] = shape
        return shapes

    @property
    def output_shape(self) -> Shape:
        """The shape of the last node's output."""
        return self.shapes()[self.nodes[-1].name]

    def last_use(self) -> dict[str, int]:
        """Return, for every name, the index of the last node that reads it (to free it afterwards)."""
        return {name: i for i, node in enumerate(self.nodes) for name in node.inputs}

    def digest(self) -> str:
        """Return the SHA-256 of the graph in canonical form; peers with different graphs refuse each other."""
        description: list[Any] = [self.input_shape]
        description += [[type(node).__name__, dataclasses.asdict(node)] for node in self.nodes]
        return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def pool_before_relu(graph: Graph) -> Graph:
    """Swap every ReLU that only a max-pool reads with that pool: they commute, and the pool's output is smaller."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    swapped: dict[str, str] = {}  # pool -> its ReLU
    for node in graph.nodes:
        reading = readers.get(node.name, [])
        if isinstance(node, ReLU) and len(reading) == 1 and isinstance(reading[0], MaxPool2d):
            swapped[reading[0].name] = node.name
    by_name = {node.name: node for node in graph.nodes}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in swapped.values():
            continue
        if relu := swapped.get(node.name):
            nodes += [
                dataclasses.replace(node, inputs=tuple(swapped.get(name, name) for name in by_name[relu].inputs)),
                ReLU(relu, (node.name,)),
            ]
        else:
            nodes.append(dataclasses.replace(node, inputs=tuple(swapped.get(name, name) for name in node.inputs)))
    return Graph(graph.input_shape, tuple(nodes))


def _check_axes(node: Node, shapes: list[Shape]) -> None:
    """Raise `ParameterError` unless a node reads as many inputs, of as many axes, as its kind does."""
    inputs = 2 if isinstance(node, Add) else 1
    if len(shapes) != inputs:
        raise ParameterError(
            f"{node.name}: expected {'two inputs of one shape' if inputs == 2 else 'one input'}, got {len(shapes)}"
        )
    flat = isinstance(node, Conv2d) and node.flat
    axes = 1 if flat else 3 if isinstance(node, Conv2d | MaxPool2d | AvgPool2d | Pad) else None
    if axes and any(len(shape) != axes for shape in shapes):
        raise ParameterError(f"{node.name}: expected inputs of {axes} axes, got shapes {shapes}")


def _window(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))
    return height, width
