"""A layer graph as a JSON object, and back. So a client without the model's file learns the graph from the server.

The object has the input's shape and a list of nodes. A node has its kind, its name, its inputs, and the fields of its
kind, and no others:

    {"input_shape": [3, 16, 16], "nodes": [{"kind": "ReLU", "name": "relu", "inputs": ["input"]}, ...]}

A peer's object is checked before anything of its size is allocated. The bounds leave room for networks of millions of
weights. They limit the memory and the time of a client whose server is hostile:

- each field of a node, and the number of nodes;
- the numbers in each layer's input with its padding, in each layer's output, in all outputs, and in all windows of a
  pool;
- the weights of each layer, and the channels and the products of all linear layers, which limit the search for plans.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from protocols.document import Document, Kind, boolean, integer, list_of, number, objects, row
from protocols.errors import ParameterError, ProtocolError
from protocols.linear.packing import ConvShape
from protocols.network.graph import INPUT, Graph, Node, Shape
from protocols.network.layers import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Pad,
    PReLU,
    ReLU,
    Square,
)

__all__ = ["MAX_NODES", "graph_document", "graph_from_document"]

MAX_NODES = 2_000
"""Nodes of a graph, at most."""

_MAX_SIDE = 1 << 20
_MAX_NUMBERS = 1 << 22
"""Numbers in a layer's input with padding, in its output, or in all windows of a pool: 32 MiB of shares."""
_MAX_OUTPUTS = 1 << 24
"""Numbers in all outputs together."""
_MAX_WEIGHTS = 1 << 24
_MAX_CHANNELS = 1 << 18
"""Input and output channels of all linear layers together."""
_MAX_PRODUCTS = 1 << 32
"""Products of numbers and weights, in all layers together."""

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,80}")


def _name(value: Any) -> str:
    if not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise ValueError(_node_name.what)
    return value


_node_name = Kind("a name of 1 to 80 letters, digits, dots, hyphens and underscores", _name)

_SHAPE = list_of(integer(1, _MAX_SIDE), 3, 1)
_KERNEL = row(integer(1, 64), integer(1, 64))
_WINDOW = row(integer(0, 64), integer(0, 64))
_STRIDE = row(integer(1, 64), integer(1, 64))
_PADDING = row(integer(0, 64), integer(0, 64))
_number = number(-(2.0**18), 2.0**18)
_SLOPE = Kind(_number.what, lambda value: float(_number.read(value)))

_KINDS: Mapping[type[Node], Mapping[str, Kind[Any]]] = {
    Conv2d: {
        "channels_out": integer(1, 1 << 14),
        "kernel": _KERNEL,
        "stride": _STRIDE,
        "padding": _PADDING,
        "groups": integer(1, _MAX_SIDE),
        "flat": boolean,
    },
    ReLU: {},
    PReLU: {},
    LeakyReLU: {"slope": _SLOPE},
    Square: {},
    MaxPool2d: {"kernel": _KERNEL, "stride": _STRIDE, "padding": _PADDING},
    AvgPool2d: {"kernel": _WINDOW, "stride": _STRIDE},
    Add: {},
    Pad: {"amount": row(*(integer(0, 1 << 12),) * 3)},
    Flatten: {},
}
"""The fields of each kind of node, besides its name and its inputs."""

_BY_NAME = {kind.__name__: kind for kind in _KINDS}


def graph_document(graph: Graph) -> dict[str, Any]:
    """Return a graph as a JSON object.

    Raises:
        ParameterError: a node is of a kind that documents do not have.
    """
    return {"input_shape": list(graph.input_shape), "nodes": [_node_document(node) for node in graph.nodes]}


def _node_document(node: Node) -> dict[str, Any]:
    if type(node) not in _KINDS:
        raise ParameterError(f"{node.name}: expected one of {', '.join(_BY_NAME)}, got {type(node).__name__}")
    fields = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    return {"kind": type(node).__name__, **plain}


def graph_from_document(document: Document) -> Graph:
    """Return the graph that a peer's object describes. It takes all fields, and the nodes keep theirs.

    Raises:
        ProtocolError: a field is missing, unknown, of another type or out of bounds, the nodes are no graph, or the
            graph is too large.
    """
    shape = document.take("input_shape", _SHAPE)
    nodes = document.take("nodes", objects(MAX_NODES))
    document.end()
    read = tuple(_node(node, f"layer {index} of {document.what}") for index, node in enumerate(nodes, 1))
    try:
        graph = Graph(tuple(shape), read)
        _check_readers(graph)
        _check_sizes(graph)
    except ParameterError as error:
        raise ProtocolError(f"{document.what}: {error}") from error
    return graph


def _node(fields: Mapping[str, Any], what: str) -> Node:
    with Document(dict(fields), what) as document:
        kind = document.take("kind", Kind(f"one of {', '.join(_BY_NAME)}", _kind))
        name = document.take("name", _node_name)
        inputs = document.take("inputs", list_of(_node_name, 2, 1))
        own = {field: document.take(field, reader) for field, reader in _KINDS[kind].items()}
    return kind(name, tuple(inputs), **own)


def _kind(value: Any) -> type[Node]:
    if not (isinstance(value, str) and value in _BY_NAME):
        raise ValueError(f"one of {', '.join(_BY_NAME)}")
    return _BY_NAME[value]


def _check_readers(graph: Graph) -> None:
    """Raise `ParameterError` if a node may not read the network's input, or if nobody reads a node."""
    read = {name for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        if INPUT in node.inputs and not node.reads_encrypted:
            raise ParameterError(f"{node.name}: expected only convolutions to read the network's input, got this one")
        if node.name not in read and node is not graph.nodes[-1]:
            raise ParameterError(f"{node.name}: expected a layer that another one reads, got none that does")


def _check_sizes(graph: Graph) -> None:
    """Raise `ParameterError` if a layer or all layers are too large."""
    shapes = graph.shapes()
    outputs = [_within(name, math.prod(shape), _MAX_NUMBERS, "numbers") for name, shape in shapes.items()]
    _within("all layers", sum(outputs), _MAX_OUTPUTS, "numbers")
    for node in graph.nodes:
        _check_windows(node, shapes[node.inputs[0]], shapes[node.name])
    linear = graph.linear_layers()
    channels = sum(shape.channels + shape.channels_out for shape in linear.values())
    _within("all layers", channels, _MAX_CHANNELS, "channels")
    products = [_products(name, shape, shapes[name]) for name, shape in linear.items()]
    _within("all layers", sum(products), _MAX_PRODUCTS, "products")


def _check_windows(node: Node, source: Shape, target: Shape) -> None:
    """Raise `ParameterError` if a pool's padded input or all its windows are too large."""
    if isinstance(node, MaxPool2d):
        _check_padded(node.name, source, node.padding, node.stride)
    if isinstance(node, MaxPool2d | AvgPool2d):
        kernel = node.kernel if node.kernel != (0, 0) else source[1:]
        _within(node.name, math.prod(target) * math.prod(kernel), _MAX_NUMBERS, "numbers in windows")


def _products(name: str, shape: ConvShape, target: Shape) -> int:
    """Return the number of products of a linear layer, after checks of its sizes."""
    if shape.channels_out * shape.height_out * shape.width_out != math.prod(target):
        raise ParameterError(f"{name}: expected an output of {target}, got options that give another")
    _check_padded(name, (shape.channels, shape.height, shape.width), shape.padding, shape.stride)
    weights = shape.channels_out * (shape.channels // shape.groups) * math.prod(shape.kernel)
    _within(name, weights, _MAX_WEIGHTS, "weights")
    return weights * shape.height_out * shape.width_out


def _check_padded(name: str, source: Shape, padding: tuple[int, int], stride: tuple[int, int]) -> None:
    """Raise `ParameterError` if an input is too large with its padding and a last stride."""
    channels, *sides = source
    padded = [side + 2 * pad + step - 1 for side, pad, step in zip(sides, padding, stride, strict=True)]
    _within(name, channels * math.prod(padded), _MAX_NUMBERS, "numbers with padding")


def _within(name: str, size: int, most: int, what: str) -> int:
    if size > most:
        raise ParameterError(f"{name}: expected at most {most} {what}, got {size}")
    return size
