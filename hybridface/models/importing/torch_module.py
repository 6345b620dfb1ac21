"""Turn a torch module into the public layer graph and the server's weights.

torch.fx traces the module symbolically, without data. Batch normalisation, with its evaluation statistics, is folded
into the convolution before it. Identities and dropout vanish. Everything else that a layer graph cannot express is
refused. A module on torch's meta device has a graph and no weights, so a client that must not hold the weights can
still build the graph.
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
from hybridface.models.importing.builder import GraphBuilder
from protocols.network.graph import Graph, LinearWeights, Shape
from protocols.network.layers import Add, AvgPool2d, Conv2d, Flatten, LeakyReLU, MaxPool2d, Pad, PReLU, ReLU, Square

__all__ = ["graph_from_torch"]


def graph_from_torch(module: torch.nn.Module, input_shape: Shape) -> tuple[Graph, dict[str, LinearWeights]]:
    """Return the layer graph of a module, with max-pools before ReLUs, and its float64 weights by node name.

    Args:
        module: a module in evaluation mode that maps one tensor (batch, *input_shape) to one tensor.
        input_shape: (channels, height, width) or (features,).

    Returns:
        The graph and the weights. The weights are empty if the module is on the meta device.

    Raises:
        ModelError: the module cannot be traced, or has an operation or option that the graph cannot express.
    """
    try:
        traced = torch.fx.symbolic_trace(module)
    except Exception as error:  # a module's own code can raise anything when it meets a proxy
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(f"cannot trace {type(module).__name__}: {reason}") from error
    traced.graph.eliminate_dead_code()
    builder = _TorchBuilder(dict(traced.named_modules()), input_shape)
    for fx_node in traced.graph.nodes:
        builder.visit(fx_node)
    return builder.finish(type(module).__name__), builder.weights


class _TorchBuilder(GraphBuilder):
    """Translates torch.fx nodes. A value is named by the torch.fx node that computes it."""

    def __init__(self, modules: Mapping[str, Any], input_shape: Shape) -> None:
        super().__init__(input_shape)
        self._modules = modules

    def visit(self, fx_node: Any) -> None:
        """Translate one torch.fx node."""
        match fx_node.op:
            case "placeholder":
                if self.has_input:
                    raise ModelError(f"expected a module with one input, got a second one, {fx_node.name}")
                self.take_input(fx_node)
            case "output":
                if not self.nodes or self.operand(fx_node, fx_node.args[0]) != self.nodes[-1].name:
                    raise ModelError("expected one tensor as output: the one that the module computes last")
            case "call_module":
                module = self._modules[fx_node.target]
                self.refuse_overwriting(fx_node, getattr(module, "inplace", False))
                _handler(_MODULES, type(module), type(module).__name__, fx_node)(self, fx_node, module)
            case "call_function" | "call_method":
                label = getattr(fx_node.target, "__name__", str(fx_node.target))
                _handler(_FUNCTIONS, fx_node.target, label, fx_node)(self, fx_node)
            case other:
                raise ModelError(f"{fx_node.name}: unsupported operation {other} {fx_node.target}")

    def operand(self, fx_node: Any, argument: Any) -> str:
        """Return the name of the graph's node that computes the value of an argument."""
        return self.source(_tensor(fx_node, argument))

    def input_of(self, fx_node: Any, rank: int | None = None) -> tuple[str, Shape]:
        """Return the name and the shape of a torch.fx node's first operand. Check its number of axes, `rank`."""
        return self.source_of_rank(_tensor(fx_node, fx_node.args[0]), fx_node.name, rank)

    def refuse_overwriting(self, fx_node: Any, in_place: bool) -> None:
        """Refuse an in-place operation on a value that other nodes read: a graph has no order of reads and writes."""
        value = fx_node.args[0] if in_place and fx_node.args else None
        while isinstance(value, torch.fx.Node):
            if len(value.users) > 1:
                raise ModelError(f"{fx_node.name}: unsupported in-place operation on a tensor with other readers")
            value = value.args[0] if self._shares_memory(value) else None

    def _shares_memory(self, fx_node: Any) -> bool:
        """Whether torch may return the operand itself, or a view of it."""
        kind = type(self._modules[fx_node.target]) if fx_node.op == "call_module" else fx_node.target
        return kind in _SAME_MEMORY

    def keep_tensors(self, name: str, weight: Any, bias: Any) -> None:
        """Keep a node's weights, unless they have no values (meta device)."""
        if not weight.is_meta:
            self.keep_weights(name, _array(weight), None if bias is None else _array(bias))


def _tensor(fx_node: Any, argument: Any) -> Any:
    if not isinstance(argument, torch.fx.Node):
        raise ModelError(f"{fx_node.name}: expected a tensor as operand, got {argument!r}")
    return argument


def _convolution(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, shape = builder.input_of(fx_node, rank=3)
    if _pair(module.dilation) != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ModelError(f"{fx_node.name}: expected dilation 1 and integer zero padding, got {module}")
    if shape[0] != module.in_channels:
        raise ModelError(f"{fx_node.name}: expected {module.in_channels} channels, got {shape[0]}")
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    name = fx_node.name
    builder.add(fx_node, Conv2d(name, (source,), module.out_channels, kernel, stride, padding, module.groups))
    builder.keep_tensors(name, module.weight, module.bias)


def _linear(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, shape = builder.input_of(fx_node, rank=1)
    if shape[0] != module.in_features:
        raise ModelError(f"{fx_node.name}: expected {module.in_features} features, got {shape[0]}")
    builder.add(fx_node, Conv2d(fx_node.name, (source,), module.out_features, flat=True))
    builder.keep_tensors(fx_node.name, module.weight, module.bias)


def _batch_norm(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    convolution = builder.convolution(source)
    norm_only = fx_node.args[0].name == source and len(fx_node.args[0].users) == 1
    if convolution is None or not norm_only:
        raise ModelError(f"{fx_node.name}: expected BatchNorm2d right after a convolution with no other reader")
    if module.running_mean is None:
        raise ModelError(f"{fx_node.name}: expected BatchNorm2d with running statistics, got none")
    if convolution.channels_out != module.num_features:
        raise ModelError(f"{fx_node.name}: expected {module.num_features} channels, got {convolution.channels_out}")
    builder.alias(fx_node, fx_node.args[0])
    if source in builder.weights and not module.running_mean.is_meta:
        builder.fold_affine(source, *_scale_and_shift(module))


def _scale_and_shift(norm: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a and b of gamma (x - mean) / sqrt(variance + eps) + beta = a x + b."""
    scale = 1 / np.sqrt(_array(norm.running_var) + norm.eps)
    beta: NDArray[np.float64] | float = 0.0
    if norm.affine:
        scale, beta = scale * _array(norm.weight), _array(norm.bias)
    return scale, beta - _array(norm.running_mean) * scale


def _prelu(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, shape = builder.input_of(fx_node)
    if module.num_parameters not in (1, shape[0]):
        raise ModelError(f"{fx_node.name}: expected 1 or {shape[0]} slopes, got {module.num_parameters}")
    builder.add(fx_node, PReLU(fx_node.name, (source,)))
    builder.keep_tensors(fx_node.name, module.weight.expand(shape[0]), None)


def _leaky_relu(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node)
    builder.add(fx_node, LeakyReLU(fx_node.name, (source,), float(module.negative_slope)))


def _max_pool(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise ModelError(f"{fx_node.name}: expected dilation 1, ceil_mode False and no indices, got {module}")
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    builder.add(fx_node, MaxPool2d(fx_node.name, (source,), kernel, stride, padding))


def _average_pool(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override is not None:
        raise ModelError(f"{fx_node.name}: expected no padding, ceil_mode False and no divisor, got {module}")
    builder.add(fx_node, AvgPool2d(fx_node.name, (source,), _pair(module.kernel_size), _pair(module.stride)))


def _global_average_pool(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    if _pair(module.output_size) != (1, 1):
        raise ModelError(f"{fx_node.name}: expected an output of one pixel, got {module}")
    builder.add(fx_node, AvgPool2d(fx_node.name, (source,), (0, 0), (1, 1)))


def _relu_module(builder: _TorchBuilder, fx_node: Any, _module: Any) -> None:
    _relu(builder, fx_node)


def _relu_function(builder: _TorchBuilder, fx_node: Any) -> None:
    builder.refuse_overwriting(fx_node, *_options(fx_node, inplace=False))
    _relu(builder, fx_node)


def _relu(builder: _TorchBuilder, fx_node: Any) -> None:
    builder.add(fx_node, ReLU(fx_node.name, (builder.input_of(fx_node)[0],)))


def _flatten_module(builder: _TorchBuilder, fx_node: Any, module: Any) -> None:
    _flatten(builder, fx_node, module.start_dim, module.end_dim)


def _flatten_function(builder: _TorchBuilder, fx_node: Any) -> None:
    start, end = _options(fx_node, start_dim=0, end_dim=-1)
    _flatten(builder, fx_node, start, end)


def _flatten(builder: _TorchBuilder, fx_node: Any, start: int, end: int) -> None:
    source, shape = builder.input_of(fx_node)
    if start != 1 or end not in (-1, len(shape)):
        raise ModelError(f"{fx_node.name}: expected to flatten all axes but the batch, got axes {start} to {end}")
    builder.add(fx_node, Flatten(fx_node.name, (source,)))


def _add_in_place(builder: _TorchBuilder, fx_node: Any) -> None:
    builder.refuse_overwriting(fx_node, True)
    _add(builder, fx_node)


def _add(builder: _TorchBuilder, fx_node: Any) -> None:
    if fx_node.kwargs or len(fx_node.args) != 2:
        raise ModelError(f"{fx_node.name}: expected a sum of two tensors, got other arguments")
    builder.add(fx_node, Add(fx_node.name, tuple(builder.operand(fx_node, argument) for argument in fx_node.args)))


def _multiply(builder: _TorchBuilder, fx_node: Any) -> None:
    if len(fx_node.args) != 2 or fx_node.args[0] is not fx_node.args[1]:
        raise ModelError(f"{fx_node.name}: unsupported operation mul: only a tensor times itself is supported")
    _square(builder, fx_node)


def _power(builder: _TorchBuilder, fx_node: Any) -> None:
    if tuple(fx_node.args[1:]) != (2,):
        raise ModelError(f"{fx_node.name}: unsupported operation pow: only the exponent 2 is supported")
    _square(builder, fx_node)


def _square(builder: _TorchBuilder, fx_node: Any) -> None:
    builder.add(fx_node, Square(fx_node.name, (builder.input_of(fx_node)[0],)))


def _pad(builder: _TorchBuilder, fx_node: Any) -> None:
    source, _ = builder.input_of(fx_node, rank=3)
    amounts, mode, value = _options(fx_node, pad=(), mode="constant", value=None)
    padded = (*amounts, *(0,) * (6 - len(amounts)))
    left, right, top, bottom, front, back = padded[:6]
    if mode != "constant" or value or any((left, top, front, *padded[6:])) or min(right, bottom, back) < 0:
        raise ModelError(f"{fx_node.name}: expected zeros at the bottom, right and last channels only, got {amounts}")
    builder.add(fx_node, Pad(fx_node.name, (source,), (back, bottom, right)))


def _drop(builder: _TorchBuilder, fx_node: Any, _module: Any = None) -> None:
    builder.alias(fx_node, _tensor(fx_node, fx_node.args[0]))


_MODULES: dict[Any, Callable[[_TorchBuilder, Any, Any], None]] = {
    torch.nn.Conv2d: _convolution,
    torch.nn.Linear: _linear,
    torch.nn.BatchNorm2d: _batch_norm,
    torch.nn.ReLU: _relu_module,
    torch.nn.PReLU: _prelu,
    torch.nn.LeakyReLU: _leaky_relu,
    torch.nn.MaxPool2d: _max_pool,
    torch.nn.AvgPool2d: _average_pool,
    torch.nn.AdaptiveAvgPool2d: _global_average_pool,
    torch.nn.Flatten: _flatten_module,
    torch.nn.Identity: _drop,
    torch.nn.Dropout: _drop,
    torch.nn.Dropout2d: _drop,
}

_FUNCTIONS: dict[Any, Callable[[_TorchBuilder, Any], None]] = {
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


_SAME_MEMORY = {
    torch.nn.Flatten,
    torch.nn.Identity,
    torch.nn.Dropout,
    torch.nn.Dropout2d,
    torch.flatten,
    "flatten",
    F.dropout,
}
"""Operations for which torch may return the operand itself, or a view of it."""


def _handler(table: dict[Any, Callable[..., None]], key: Any, label: str, fx_node: Any) -> Callable[..., None]:
    if key not in table:
        raise ModelError(f"{fx_node.name}: unsupported operation {label}")
    if not fx_node.args:
        raise ModelError(f"{fx_node.name}: expected the operand of {label} by position")
    return table[key]


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
