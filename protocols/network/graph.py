"""A network as data: a layer graph that the protocols and the emulator walk.

The graph is public: both parties hold it, and compare its digest. It contains no weights. The weights are a separate
mapping, which only the server holds (`Weights`). Nodes are in topological order, and every node names its inputs.
Shapes are per image: (channels, height, width) or (features,). The kinds of nodes are in `layers`.
"""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError
from protocols.linear.packing import ConvShape

__all__ = [
    "INPUT",
    "Graph",
    "LinearWeights",
    "Node",
    "Number",
    "OnLayer",
    "Operations",
    "Shape",
    "Weights",
    "Work",
    "layer_weights",
]

Shape = tuple[int, ...]
INPUT = "input"
"""The name by which nodes refer to the network's input."""


class Work(StrEnum):
    """The kind of work that a layer does, for reports."""

    LINEAR = "linear"
    ACTIVATION = "activation"
    POOL = "pool"
    LOCAL = "local"
    """Work that each party does alone, on its own share."""


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
"""Weights by node name. Only the server holds them."""


class Number(Protocol):
    """A value that layers compute with: a share, integers or symbols; (B, C, H, W) for images, else (B, features)."""

    def __add__(self, other: Any, /) -> Self: ...

    def __sub__(self, other: Any, /) -> Self: ...


Value = TypeVar("Value", bound=Number)

OnLayer = Callable[[str], None]
"""Called with a layer's name before it runs."""


class Operations(Protocol[Value]):
    """The operations that layers call, besides sums and differences of values.

    On shares an operation is a protocol (`private`); on integers it is arithmetic in the clear (`emulator`). Other
    implementations count operations, or write them down.
    """

    def linear(self, node: "Node", value: Value) -> Value:
        """Return the private linear layer of a node (see `Node.linear_shape`)."""

    def relu(self, node: "Node", value: Value) -> Value:
        """Return max(x, 0). The comparison looks at as many bits as the node's width."""

    def max_pool(
        self, node: "Node", value: Value, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> Value:
        """Return the maxima over windows, with comparisons on as many bits as the node's width; padding never wins."""

    def average_pool(self, value: Value, kernel: tuple[int, int], stride: tuple[int, int]) -> Value:
        """Return the means over windows."""

    def square(self, value: Value) -> Value:
        """Return x^2."""

    def scale(self, value: Value, factor: float) -> Value:
        """Return x times a public factor, rounded to 20 significant bits (see `public_factor`)."""

    def pad(self, value: Value, amount: tuple[int, int, int]) -> Value:
        """Append zeros after the last channel, below, and to the right."""

    def flatten(self, value: Value) -> Value:
        """Return (B, features), row-major."""


@dataclass(frozen=True)
class Node(ABC):
    """A layer: its name and the names of the nodes it reads. Each kind of layer is a subclass, in `layers`."""

    name: str
    inputs: tuple[str, ...]

    work: ClassVar[Work] = Work.LOCAL
    arity: ClassVar[int] = 1
    """How many inputs it reads."""
    compares: ClassVar[bool] = False
    """Whether it compares, and so has a width (see `widths`)."""
    reads_encrypted: ClassVar[bool] = False
    """Whether it may read the network's input, which only the client has. Only a purely linear layer may."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The name of this kind of layer in reports."""

    @property
    def axes(self) -> int | None:
        """How many axes its inputs have; None for any number."""
        return None

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the output for the shapes of the inputs.

        Raises:
            ParameterError: the shapes do not fit this layer.
        """
        return shapes[0]

    def linear_shape(self, source: Shape) -> ConvShape | None:
        """Return the shape of its private linear layer, for the shape of its input; None if it has no such layer."""
        return None

    @abstractmethod
    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        """Return the output. The operations that it calls use up correlations; the node itself uses up none."""


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

    def linear_layers(self) -> dict[str, ConvShape]:
        """Return the private linear layers by name: convolutions, fully connected layers, slopes."""
        shapes = self.shapes()
        found = ((node.name, node.linear_shape(shapes[node.inputs[0]])) for node in self.nodes)
        return {name: shape for name, shape in found if shape is not None}

    def comparing_layers(self) -> dict[str, Node]:
        """Return the layers that compare, by name."""
        return {node.name: node for node in self.nodes if node.compares}

    def evaluate(self, on: Operations[Value], value: Value, on_layer: OnLayer | None = None) -> Value:
        """Return the last node's output for the network's input.

        Args:
            on_layer: called with a node's name before it is evaluated.
        """
        values, last_use = {INPUT: value}, self.last_use()
        for index, node in enumerate(self.nodes):
            if on_layer:
                on_layer(node.name)
            values[node.name] = node.evaluate(on, *(values[name] for name in node.inputs))
            for name in {name for name in node.inputs if last_use[name] == index}:
                del values[name]
        return values[self.nodes[-1].name]

    def digest(self) -> str:
        """Return the SHA-256 of the graph in canonical form; peers with different graphs refuse each other."""
        description: list[Any] = [self.input_shape]
        description += [[type(node).__name__, dataclasses.asdict(node)] for node in self.nodes]
        return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def layer_weights(
    weights: Weights, name: str, shape: ConvShape
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return a layer's weights as a convolution's (M, C / groups, kh, kw), and its bias.

    Raises:
        ParameterError: the weights are missing, or weights or bias have another size or are not finite.
    """
    if name not in weights:
        raise ParameterError(f"expected weights for {name}, got none")
    expected = (shape.channels_out, shape.channels // shape.groups, *shape.kernel)
    weight = np.asarray(weights[name].weight, dtype=np.float64)
    if weight.size != np.prod(expected) or not np.isfinite(weight).all():
        raise ParameterError(f"{name}: expected finite weights of shape {expected}, got {weight.shape}")
    bias = weights[name].bias
    if bias is not None and (bias.shape != (shape.channels_out,) or not np.isfinite(bias).all()):
        raise ParameterError(f"{name}: expected a finite bias of shape ({shape.channels_out},), got {bias.shape}")
    return weight.reshape(expected), bias


def _check_axes(node: Node, shapes: list[Shape]) -> None:
    """Raise `ParameterError` if a node has another number of inputs than its kind, or inputs of other axes."""
    if len(shapes) != node.arity:
        wanted = "one input" if node.arity == 1 else "two inputs of one shape"
        raise ParameterError(f"{node.name}: expected {wanted}, got {len(shapes)}")
    if node.axes and any(len(shape) != node.axes for shape in shapes):
        raise ParameterError(f"{node.name}: expected inputs of {node.axes} axes, got shapes {shapes}")
