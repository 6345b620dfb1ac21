"""The kinds of layers: the shape, the computation, the name in reports and the private weights of each.

A kind states its computation once, as calls of `Operations`. On shares these calls are protocols (`private`); on
integers they are the same arithmetic in the clear (`emulator`). To add a kind, write a class here, a line in the table
of an importer (`hybridface.models.importing`), and a test. Nothing else in the project asks for a node's kind.

A kind compares on as many bits as `widths` gives it. Its products with private numbers are one private linear layer.
Each party sees what these protocols show it: see `shares.comparison` and `linear.convolution`.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from protocols.errors import ParameterError
from protocols.linear.packing import ConvShape
from protocols.network.graph import Graph, Node, Operations, Shape, Value, Work
from protocols.shares.truncation import public_factor

__all__ = [
    "Add",
    "AvgPool2d",
    "Conv2d",
    "Flatten",
    "LeakyReLU",
    "MaxPool2d",
    "PReLU",
    "Pad",
    "ReLU",
    "Square",
    "pool_before_relu",
]

_LOCAL_TITLE = "sums, means, padding"


@dataclass(frozen=True)
class Conv2d(Node):
    """Convolution (a cross-correlation, as in torch) with symmetric zero padding and private weights.

    A fully connected layer is the convolution of a 1x1 image with a 1x1 kernel; its input may be (features,).
    """

    channels_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    flat: bool = False  # a fully connected layer: input and output are (features,)

    work: ClassVar[Work] = Work.LINEAR
    reads_encrypted: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "fully connected" if self.flat else "convolutions"

    @property
    def axes(self) -> int:
        return 1 if self.flat else 3

    def output_shape(self, *shapes: Shape) -> Shape:
        if self.flat:
            return (self.channels_out,)
        channels, height, width = shapes[0]
        if self.groups < 1 or channels % self.groups or self.channels_out % self.groups:
            raise ParameterError(
                f"{self.name}: expected groups that divide {channels} and {self.channels_out} channels, "
                f"got {self.groups}"
            )
        return (self.channels_out, *_windows(self.name, (height, width), self.kernel, self.stride, self.padding))

    def linear_shape(self, source: Shape) -> ConvShape:
        channels, height, width = (*source, 1, 1)[:3]
        own = self.channels_out, self.kernel, self.stride, self.padding, self.groups
        return ConvShape(channels, height, width, *own)

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.linear(self, values[0])


@dataclass(frozen=True)
class ReLU(Node):
    """max(x, 0), exactly."""

    work: ClassVar[Work] = Work.ACTIVATION
    compares: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "ReLU"

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.relu(self, values[0])


@dataclass(frozen=True)
class PReLU(Node):
    """max(x, 0) + a min(x, 0), with one private slope a per channel: a 1x1 convolution with one channel per group."""

    work: ClassVar[Work] = Work.ACTIVATION
    compares: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "PReLU"

    def linear_shape(self, source: Shape) -> ConvShape:
        channels, height, width = (*source, 1, 1)[:3]
        return ConvShape(channels, height, width, channels, groups=channels)

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        positive = on.relu(self, values[0])
        return positive + on.linear(self, values[0] - positive)


@dataclass(frozen=True)
class LeakyReLU(Node):
    """max(x, 0) + a min(x, 0), with one public slope a for all channels."""

    slope: float

    work: ClassVar[Work] = Work.ACTIVATION
    compares: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "leaky ReLU"

    def output_shape(self, *shapes: Shape) -> Shape:
        public_factor(self.slope)
        return shapes[0]

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        positive = on.relu(self, values[0])
        return positive + on.scale(values[0] - positive, self.slope)


@dataclass(frozen=True)
class Square(Node):
    """x^2."""

    work: ClassVar[Work] = Work.ACTIVATION

    @property
    def title(self) -> str:
        return "squares"

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.square(values[0])


@dataclass(frozen=True)
class MaxPool2d(Node):
    """Maximum over windows; padding never wins."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    work: ClassVar[Work] = Work.POOL
    compares: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "max-pool"

    @property
    def axes(self) -> int:
        return 3

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, height, width = shapes[0]
        if any(2 * padding > size for padding, size in zip(self.padding, self.kernel, strict=True)):
            raise ParameterError(f"{self.name}: expected padding up to half of the kernel, got {self.padding}")
        return (channels, *_windows(self.name, (height, width), self.kernel, self.stride, self.padding))

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.max_pool(self, values[0], self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class AvgPool2d(Node):
    """Mean over windows without padding; a kernel of (0, 0) is the whole image."""

    kernel: tuple[int, int]
    stride: tuple[int, int]

    @property
    def title(self) -> str:
        return _LOCAL_TITLE

    @property
    def axes(self) -> int:
        return 3

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, height, width = shapes[0]
        kernel = self.kernel if self.kernel != (0, 0) else (height, width)
        return (channels, *_windows(self.name, (height, width), kernel, self.stride, (0, 0)))

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.average_pool(values[0], self.kernel, self.stride)


@dataclass(frozen=True)
class Add(Node):
    """Sum of two inputs of the same shape."""

    arity: ClassVar[int] = 2

    @property
    def title(self) -> str:
        return _LOCAL_TITLE

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise ParameterError(f"{self.name}: expected two inputs of one shape, got {shapes}")
        return shapes[0]

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return values[0] + values[1]


@dataclass(frozen=True)
class Pad(Node):
    """Zeros after the last channel, below, and to the right: each `amount` is at least 0."""

    amount: tuple[int, int, int]

    @property
    def title(self) -> str:
        return _LOCAL_TITLE

    @property
    def axes(self) -> int:
        return 3

    def output_shape(self, *shapes: Shape) -> Shape:
        if min(self.amount) < 0:
            raise ParameterError(f"{self.name}: expected amounts >= 0, got {self.amount}")
        channels, height, width = shapes[0]
        return (channels + self.amount[0], height + self.amount[1], width + self.amount[2])

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.pad(values[0], self.amount)


@dataclass(frozen=True)
class Flatten(Node):
    """All axes joined into one, row-major."""

    @property
    def title(self) -> str:
        return _LOCAL_TITLE

    def output_shape(self, *shapes: Shape) -> Shape:
        return (int(np.prod(shapes[0])),)

    def evaluate(self, on: Operations[Value], *values: Value) -> Value:
        return on.flatten(values[0])


def pool_before_relu(graph: Graph) -> Graph:
    """Swap every ReLU that only a max-pool reads with that pool. They commute, and the pool's output is smaller."""
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


def _windows(
    name: str, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """Return how many windows there are, down and across."""
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        raise ParameterError(
            f"{name}: expected a kernel and a stride of at least 1 and no negative padding, "
            f"got {kernel}, {stride} and {padding}"
        )
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))
    return height, width
