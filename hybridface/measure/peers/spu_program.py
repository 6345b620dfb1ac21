"""Write a layer graph as a list of operations in JSON, for a program that knows neither this project nor its layers.

Each operation is an object with its `kind`, the numbers of its `inputs`, and its options. Input 0 is the network's
input, and input n is the output of the n-th operation. A `linear` operation has a `form`: "dense" for features,
"slopes" for one factor per channel, or "convolution" for images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.linear.packing import ConvShape
from protocols.network.graph import Graph, Node, Weights, layer_weights

__all__ = ["arrays_of", "program_of"]


@dataclass(frozen=True)
class _Symbol:
    """A value of the program: its number, and whether it is flat (features) or not (images)."""

    writer: "_Writer"
    number: int
    flat: bool

    def __add__(self, other: "_Symbol") -> "_Symbol":
        return self.writer.write("add", [self, other], self.flat)

    def __sub__(self, other: "_Symbol") -> "_Symbol":
        return self.writer.write("subtract", [self, other], self.flat)


class _Writer:
    """Writes down the operations of the layers (see `Operations`)."""

    def __init__(self, graph: Graph) -> None:
        self._shapes = graph.linear_layers()
        self.program: list[dict[str, Any]] = []

    def write(self, kind: str, inputs: list[_Symbol], flat: bool, **options: Any) -> _Symbol:
        self.program.append({"kind": kind, "inputs": [symbol.number for symbol in inputs], **options})
        return _Symbol(self, len(self.program), flat)

    def linear(self, node: Node, value: _Symbol) -> _Symbol:
        shape = self._shapes[node.name]
        options = {"stride": shape.stride, "padding": shape.padding, "groups": shape.groups}
        return self.write("linear", [value], value.flat, name=node.name, form=_form(shape), **options)

    def relu(self, node: Node, value: _Symbol) -> _Symbol:
        return self.write("relu", [value], value.flat)

    def max_pool(
        self, node: Node, value: _Symbol, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> _Symbol:
        return self.write("max_pool", [value], False, kernel=kernel, stride=stride, padding=padding)

    def average_pool(self, value: _Symbol, kernel: tuple[int, int], stride: tuple[int, int]) -> _Symbol:
        return self.write("average_pool", [value], False, kernel=kernel, stride=stride)

    def square(self, value: _Symbol) -> _Symbol:
        return self.write("square", [value], value.flat)

    def scale(self, value: _Symbol, factor: float) -> _Symbol:
        return self.write("scale", [value], value.flat, factor=factor)

    def pad(self, value: _Symbol, amount: tuple[int, int, int]) -> _Symbol:
        return self.write("pad", [value], False, amount=amount)

    def flatten(self, value: _Symbol) -> _Symbol:
        return self.write("flatten", [value], True)


def program_of(graph: Graph) -> list[dict[str, Any]]:
    """Return the operations of a graph. The last operation's output is the network's output."""
    writer = _Writer(graph)
    graph.evaluate(writer, _Symbol(writer, 0, len(graph.input_shape) == 1))
    return writer.program


def arrays_of(graph: Graph, weights: Weights) -> dict[str, NDArray[np.float64]]:
    """Return weights and biases by layer ("NAME.weight", "NAME.bias"), for images with channels last.

    Weights are (kh, kw, in, out) for a convolution, (in, out) for a dense layer, and (channels,) for slopes. A bias is
    (out,); it is zero if the network has none.
    """
    arrays = {}
    for name, shape in graph.linear_layers().items():
        weight, bias = layer_weights(weights, name, shape)
        arranged = {
            "dense": weight.reshape(shape.channels_out, -1).T,
            "slopes": weight.reshape(-1),
            "convolution": weight.transpose(2, 3, 1, 0),
        }
        arrays[f"{name}.weight"] = arranged[_form(shape)]
        arrays[f"{name}.bias"] = np.zeros(shape.channels_out) if bias is None else bias
    return arrays


def _form(shape: ConvShape) -> str:
    if shape.kernel == (1, 1) and shape.groups == shape.channels == shape.channels_out:
        return "slopes"
    return "dense" if (shape.height, shape.width, *shape.kernel, shape.groups) == (1,) * 5 else "convolution"
