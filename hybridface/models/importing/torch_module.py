"""Turn a torch module into the public layer graph and the server's weights.

The module is traced symbolically (torch.fx), without data. Batch normalisation is folded into the convolution before
it with its evaluation statistics; identities and dropout vanish. Everything else that the layer graph cannot express is
refused. A module on torch's meta device has a graph and no weights: that is how the party that must not hold the
weights learns the graph.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.fx
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray

from hybridface.errors import ModelError
from protocols.errors import ParameterError
from protocols.network.graph import (
    INPUT,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Graph,
    LinearWeights,
    MaxPool2d,
    Node,
    Pad,
    PReLU,
    ReLU,
    Shape,
    Square,
    pool_before_relu,
)

__all__ = ["graph_from_torch"]


def graph_from_torch(module: torch.nn.Module, input_shape: Shape) -> tuple[Graph, dict[str, LinearWeights]]:
    """Return the layer graph of a module, max-pools before ReLUs, and its float64 weights by node name.

    Args:
        module: one tensor (batch, *input_shape) in, one tensor out; in evaluation mode.
        input_shape: (channels, height, width) or (features,).

    Returns:
        The graph, and the weights: empty when the module is on the meta device.

    Raises:
        ModelError: the module cannot be traced, or has an operation or option that the graph cannot express.
    """
    try:
        traced = torch.fx.symbolic_trace(module)
    except Exception as error:  # a module's own code can raise anything when it meets a proxy
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(f"cannot trace {type(module).__name__}: {reason}") from error
    traced.graph.eliminate_dead_code()
    builder = _Builder(dict(traced.named_modules()), input_shape)
    for fx_node in traced.graph.nodes:
        builder.visit(fx_node)
    try:
        return pool_before_relu(Graph(input_shape, tuple(builder.nodes))), builder.weights
    except ParameterError as error:
        raise ModelError(f"cannot build the graph of {type(module).__name__}: {error}") from error


class _Builder:
    """Nodes, shapes and weights so far; `sources` maps a torch.fx node to the graph's node with its value."""

    def __init__(self, modules: Mapping[str, Any], input_shape: Shape) -> None:
        self.modules = modules
        self.nodes: list[Node] = []
        self.weights: dict[str, LinearWeights] = {}
        self.shapes: dict[str, Shape] = {INPUT: input_shape}
        self.sources: dict[Any, str] = {}

    def visit(self, fx_node: Any) -> None:
        """Translate one torch.fx node."""
        match fx_node.op:
            case "placeholder":
                if self.sources:
                    raise ModelError(f"expected a module of one input, got another one, {fx_node.name}")
                self.sources[fx_node] = INPUT
            case "output":
                if not self.nodes or self.source(fx_node, fx_node.args[0]) != self.nodes[-1].name:
                    raise ModelError("expected one tensor as output, the last one that is computed")
            case "call_module":
                module = self.modules[fx_node.target]
                _handler(_MODULES, type(module), type(module).__name__, fx_node)(self, fx_node, module)
            case "call_function" | "call_method":
                label = getattr(fx_node.target, "__name__", str(fx_node.target))
                _handler(_FUNCTIONS, fx_node.target, label, fx_node)(self, fx_node)
            case other:
                raise ModelError(f"{fx_node.name}: unsupported operation {other} {fx_node.target}")

    def source(self, fx_node: Any, argument: Any) -> str:
        """Return the graph's node that holds the value of an argument."""
        if not isinstance(argument, torch.fx.Node):
            raise ModelError(f"{fx_node.name}: expected a tensor as operand, got {argument!r}")
        return self.sources[argument]

    def add(self, fx_node: Any, node: Node) -> None:
        """Append a node; it holds the value of the torch.fx node from now on."""
        try:
            shape = node.output_shape(*(self.shapes[name] for name in node.inputs))
        except (ParameterError, ValueError) as error:
            raise ModelError(f"{node.name}: its input does not fit ({error})") from error
        self.nodes.append(node)
        self.shapes[node.name] = shape
        self.sources[fx_node] = node.name

    def alias(self, fx_node: Any) -> None:
        """Let a torch.fx node stand for its input."""
        self.sources[fx_node] = self.source(fx_node, fx_node.args[0])

    def input_of(self, fx_node: Any, rank: int | None = None) -> tuple[str, Shape]:
        """Return the name and the shape of a torch.fx node's first operand, of the given number of axes."""
        source = self.source(fx_node, fx_node.args[0])
        shape = self.shapes[source]
        if rank is not None and len(shape) != rank:
            raise ModelError(f"{fx_node.name}: expected an input of {rank} axes per image, got shape {shape}")
        return source, shape


def _convolution(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, shape = builder.input_of(fx_node, rank=3)
    if _pair(module.dilation) != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ModelError(f"{fx_node.name}: expected dilation 1 and integer zero padding, got {module}")
    if shape[0] != module.in_channels:
        raise ModelError(f"{fx_node.name}: expected {module.in_channels} channels, got {shape[0]}")
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    name = fx_node.name
    builder.add(fx_node, Conv2d(name, (source,), module.out_channels, kernel, stride, padding, module.groups))
    _keep_weights(builder, name, module.weight, module.bias)


def _linear(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, shape = builder.input_of(fx_node, rank=1)
    if shape[0] != module.in_features:
        raise ModelError(f"{fx_node.name}: expected {module.in_features} features, got {shape[0]}")
    builder.add(fx_node, Conv2d(fx_node.name, (source,), module.out_features, flat=True))
    _keep_weights(builder, fx_node.name, module.weight, module.bias)


def _batch_norm(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    convolution = next((node for node in builder.nodes if node.name == source), None)
    norm_only = fx_node.args[0].name == source and len(fx_node.args[0].users) == 1
    if not isinstance(convolution, Conv2d) or not norm_only:
        raise ModelError(f"{fx_node.name}: expected BatchNorm2d right after a convolution with no other reader")
    if module.running_mean is None:
        raise ModelError(f"{fx_node.name}: expected BatchNorm2d with running statistics, got none")
    if convolution.channels_out != module.num_features:
        raise ModelError(f"{fx_node.name}: expected {module.num_features} channels, got {convolution.channels_out}")
    builder.alias(fx_node)
    if source in builder.weights and not module.running_mean.is_meta:
        builder.weights[source] = _fold(builder.weights[source], module)


def _fold(weights: LinearWeights, norm: Any) -> LinearWeights:
    """Return the weights of gamma (w * x + b - mean) / sqrt(variance + eps) + beta."""
    mean, scale = _array(norm.running_mean), 1 / np.sqrt(_array(norm.running_var) + norm.eps)
    beta: NDArray[np.float64] | float = 0.0
    if norm.affine:
        scale, beta = scale * _array(norm.weight), _array(norm.bias)
    bias = 0.0 if weights.bias is None else weights.bias
    return LinearWeights(weights.weight * scale[:, None, None, None], (bias - mean) * scale + beta)


def _prelu(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, shape = builder.input_of(fx_node)
    if module.num_parameters not in (1, shape[0]):
        raise ModelError(f"{fx_node.name}: expected 1 or {shape[0]} slopes, got {module.num_parameters}")
    builder.add(fx_node, PReLU(fx_node.name, (source,)))
    _keep_weights(builder, fx_node.name, module.weight.expand(shape[0]), None)


def _max_pool(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise ModelError(f"{fx_node.name}: expected dilation 1, ceil_mode False and no indices, got {module}")
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    builder.add(fx_node, MaxPool2d(fx_node.name, (source,), kernel, stride, padding))


def _average_pool(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override is not None:
        raise ModelError(f"{fx_node.name}: expected no padding, ceil_mode False and no divisor, got {module}")
    builder.add(fx_node, AvgPool2d(fx_node.name, (source,), _pair(module.kernel_size), _pair(module.stride)))


def _global_average_pool(builder: _Builder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    if _pair(module.output_size) != (1, 1):
        raise ModelError(f"{fx_node.name}: expected an output of one pixel, got {module}")
    builder.add(fx_node, AvgPool2d(fx_node.name, (source,), (0, 0), (1, 1)))


def _relu_module(builder: _Builder, fx_node: Any, module: Any) -> None:
    _refuse_overwriting(fx_node, module.inplace)
    _relu(builder, fx_node)


def _relu_function(builder: _Builder, fx_node: Any) -> None:
    _refuse_overwriting(fx_node, *_options(fx_node, inplace=False))
    _relu(builder, fx_node)


def _relu(builder: _Builder, fx_node: Any) -> None:
    builder.add(fx_node, ReLU(fx_node.name, (builder.input_of(fx_node)[0],)))


def _flatten_module(builder: _Builder, fx_node: Any, module: Any) -> None:
    _flatten(builder, fx_node, module.start_dim, module.end_dim)


def _flatten_function(builder: _Builder, fx_node: Any) -> None:
    start, end = _options(fx_node, start_dim=0, end_dim=-1)
    _flatten(builder, fx_node, start, end)


def _flatten(builder: _Builder, fx_node: Any, start: int, end: int) -> None:
    source, shape = builder.input_of(fx_node)
    if start != 1 or end not in (-1, len(shape)):
        raise ModelError(f"{fx_node.name}: expected to flatten all axes but the batch, got axes {start} to {end}")
    builder.add(fx_node, Flatten(fx_node.name, (source,)))


def _add_in_place(builder: _Builder, fx_node: Any) -> None:
    _refuse_overwriting(fx_node, True)
    _add(builder, fx_node)


def _add(builder: _Builder, fx_node: Any) -> None:
    if fx_node.kwargs or len(fx_node.args) != 2:
        raise ModelError(f"{fx_node.name}: expected a sum of two tensors, got other arguments")
    builder.add(fx_node, Add(fx_node.name, tuple(builder.source(fx_node, argument) for argument in fx_node.args)))


def _multiply(builder: _Builder, fx_node: Any) -> None:
    if len(fx_node.args) != 2 or fx_node.args[0] is not fx_node.args[1]:
        raise ModelError(f"{fx_node.name}: unsupported operation mul, other than of a tensor with itself")
    _square(builder, fx_node)


def _power(builder: _Builder, fx_node: Any) -> None:
    if tuple(fx_node.args[1:]) != (2,):
        raise ModelError(f"{fx_node.name}: unsupported operation pow, other than with the exponent 2")
    _square(builder, fx_node)


def _square(builder: _Builder, fx_node: Any) -> None:
    builder.add(fx_node, Square(fx_node.name, (builder.input_of(fx_node)[0],)))


def _pad(builder: _Builder, fx_node: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    amounts, mode, value = _options(fx_node, pad=(), mode="constant", value=None)
    padded = (*amounts, *(0,) * (6 - len(amounts)))
    left, right, top, bottom, front, back = padded[:6]
    if mode != "constant" or value or any((left, top, front, *padded[6:])) or min(right, bottom, back) < 0:
        raise ModelError(f"{fx_node.name}: expected zeros at the bottom, right and last channels only, got {amounts}")
    builder.add(fx_node, Pad(fx_node.name, (source,), (back, bottom, right)))


def _drop(builder: _Builder, fx_node: Any, _module: Any = None) -> None:
    builder.alias(fx_node)


_MODULES: dict[Any, Callable[[_Builder, Any, Any], None]] = {
    torch.nn.Conv2d: _convolution,
    torch.nn.Linear: _linear,
    torch.nn.BatchNorm2d: _batch_norm,
    torch.nn.ReLU: _relu_module,
    torch.nn.PReLU: _prelu,
    torch.nn.MaxPool2d: _max_pool,
    torch.nn.AvgPool2d: _average_pool,
    torch.nn.AdaptiveAvgPool2d: _global_average_pool,
    torch.nn.Flatten: _flatten_module,
    torch.nn.Identity: _drop,
    torch.nn.Dropout: _drop,
    torch.nn.Dropout2d: _drop,
}

_FUNCTIONS: dict[Any, Callable[[_Builder, Any], None]] = {
    F.relu: _relu_function,
    torch.relu: _relu,
    "relu": _relu,
    operator.add: _add,
    operator.iadd: _add_in_place,
    torch.add: _add,
    F.pad: _pad,
    torch.flatten: _flatten_function,
    "flatten": _flatten_function,
    operator.mul: _multiply,
    torch.mul: _multiply,
    operator.pow: _power,
    torch.square: _square,
    "square": _square,
    F.dropout: _drop,
}


def _handler(table: dict[Any, Callable[..., None]], key: Any, label: str, fx_node: Any) -> Callable[..., None]:
    if key not in table:
        raise ModelError(f"{fx_node.name}: unsupported operation {label}")
    if not fx_node.args:
        raise ModelError(f"{fx_node.name}: expected the operand of {label} by position")
    return table[key]


def _refuse_overwriting(fx_node: Any, in_place: bool) -> None:
    """Refuse an in-place operation on a value that others read too: the graph has no order of reads and writes."""
    if in_place and len(fx_node.args[0].users) > 1:
        raise ModelError(f"{fx_node.name}: unsupported in-place operation on a tensor with other readers")


def _options(fx_node: Any, **defaults: Any) -> list[Any]:
    """Return the arguments after the first, by position or by name."""
    given = dict(zip(defaults, fx_node.args[1:], strict=False)) | dict(fx_node.kwargs)
    return list((defaults | given).values())


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)


def _array(tensor: Any) -> NDArray[np.float64]:
    """Return a copy of a tensor as float64."""
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float64)


def _keep_weights(builder: _Builder, name: str, weight: Any, bias: Any) -> None:
    """Record a node's weights, unless they have no values (meta device)."""
    if not weight.is_meta:
        builder.weights[name] = LinearWeights(_array(weight), None if bias is None else _array(bias))
