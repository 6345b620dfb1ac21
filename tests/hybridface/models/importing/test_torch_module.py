"""Torch modules as layer graphs: a walk of graph and weights computes what the module computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from hybridface.errors import ModelError
from hybridface.models import MODELS
from hybridface.models.dlib_resnet import DlibResNet
from hybridface.models.importing.torch_module import graph_from_torch
from hybridface.models.model import Model, load_model
from hybridface.models.tiny import tiny_module
from protocols.network import graph as g
from protocols.network import layers


def walk(graph: g.Graph, weights: g.Weights, image: Any) -> Any:
    """Return the output of a graph for a batch of images, layer by layer."""
    values = {g.INPUT: image}
    for node in graph.nodes:
        values[node.name] = _apply(node, weights.get(node.name), *(values[name] for name in node.inputs))
        assert tuple(values[node.name].shape[1:]) == graph.shapes()[node.name]
    return values[graph.nodes[-1].name]


def _apply(node: g.Node, weights: g.LinearWeights | None, x: Any, *others: Any) -> Any:
    weight = torch.from_numpy(weights.weight) if weights else None
    bias = torch.from_numpy(weights.bias) if weights and weights.bias is not None else None
    match node:
        case layers.Conv2d(flat=True):
            return F.linear(x, weight, bias)
        case layers.Conv2d():
            return F.conv2d(x, weight, bias, node.stride, node.padding, groups=node.groups)
        case layers.PReLU():
            return F.prelu(x, weight)
        case layers.LeakyReLU():
            return F.leaky_relu(x, node.slope)
        case layers.ReLU():
            return x.clamp(min=0)
        case layers.Square():
            return x**2
        case layers.MaxPool2d():
            return F.max_pool2d(x, node.kernel, node.stride, node.padding)
        case layers.AvgPool2d(kernel=(0, 0)):
            return x.mean((2, 3), keepdim=True)
        case layers.AvgPool2d():
            return F.avg_pool2d(x, node.kernel, node.stride)
        case layers.Add():
            return x + others[0]
        case layers.Pad():
            channels, bottom, right = node.amount
            return F.pad(x, (0, right, 0, bottom, 0, channels))
        case layers.Flatten():
            return x.flatten(1)
    raise AssertionError(f"no rule for {node}")


def assert_same_function(module: Any, input_shape: g.Shape) -> g.Graph:
    """Check the walk against the module's forward, float64, on two random images."""
    module = nn.Sequential(module).double().eval() if not list(module.children()) else module.double().eval()
    graph, weights = graph_from_torch(module, input_shape)
    image = torch.from_numpy(np.random.default_rng(1).standard_normal((2, *input_shape)))
    with torch.no_grad():
        torch.testing.assert_close(walk(graph, weights, image), module(image), rtol=1e-10, atol=1e-10)
    linear = [node.name for node in graph.nodes if isinstance(node, layers.Conv2d | layers.PReLU)]
    assert list(weights) == linear
    assert all(values.weight.dtype == np.float64 for values in weights.values())
    return graph


class Calls(nn.Module):  # type: ignore[misc]
    """A module around a function, to trace the function's calls."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def test_dlib_network() -> None:
    graph = assert_same_function(DlibResNet.from_dat(), (3, 150, 150))
    shapes = graph.shapes()
    assert shapes["conv1"] == (32, 72, 72)
    assert [node.name for node in graph.nodes[:3]] == ["conv1", "pool", "relu"]
    assert isinstance(graph.nodes[1], layers.MaxPool2d)  # swapped with the ReLU after it
    sizes = sorted({shape[-1] for shape in shapes.values() if len(shape) == 3}, reverse=True)
    assert sizes == [150, 72, 35, 17, 8, 4, 3, 2, 1]
    assert graph.output_shape == (128,)
    relus = sum(int(np.prod(shapes[node.name])) for node in graph.nodes if isinstance(node, layers.ReLU))
    assert relus == 622_272 - 32 * 72 * 72 + 39_200


def test_tiny_network() -> None:
    graph = assert_same_function(tiny_module(weights=True), (3, 16, 16))
    kinds = {type(node) for node in graph.nodes}
    assert kinds == {
        layers.Conv2d,
        layers.ReLU,
        layers.PReLU,
        layers.MaxPool2d,
        layers.AvgPool2d,
        layers.Add,
        layers.Pad,
        layers.Flatten,
    }
    assert graph.output_shape == (8,)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_folded(affine: bool, bias: bool) -> None:
    norm = nn.BatchNorm2d(6, affine=affine)
    random = np.random.default_rng(2)
    norm.running_mean.copy_(torch.from_numpy(random.standard_normal(6)))
    norm.running_var.copy_(torch.from_numpy(random.uniform(0.1, 3, 6)))
    if affine:
        norm.weight.data.copy_(torch.from_numpy(random.standard_normal(6)))
        norm.bias.data.copy_(torch.from_numpy(random.standard_normal(6)))
    module = nn.Sequential(nn.Conv2d(4, 6, (3, 1), (1, 2), (1, 0), groups=2, bias=bias), norm, nn.Dropout(), nn.PReLU())
    graph = assert_same_function(module, (4, 5, 5))
    assert [type(node) for node in graph.nodes] == [layers.Conv2d, layers.PReLU]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu(x) + x,
        lambda x: torch.add(torch.relu(x), x.relu()),
        lambda x: x * x,
        lambda x: torch.square(x),
        lambda x: x**2,
        lambda x: F.pad(x, (0, 2, 0, 1)),
        lambda x: F.pad(x, pad=(0, 0, 0, 0, 0, 3)),
        lambda x: torch.flatten(x, 1),
        lambda x: x.flatten(start_dim=1),
    ],
)
def test_functions(function: Callable[[Any], Any]) -> None:
    assert_same_function(Calls(function), (2, 4, 4))


@pytest.mark.parametrize(
    "module",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(2),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(72, 3), nn.ReLU(inplace=True), nn.Linear(3, 2, bias=False)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.PReLU(2), nn.Identity(), nn.MaxPool2d(2)),
    ],
)
def test_modules(module: Any) -> None:
    assert_same_function(module, (2, 6, 6))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sigmoid(), "unsupported operation Sigmoid"),
        (Calls(torch.exp), "unsupported operation exp"),
        (Calls(lambda x: x.mean()), "unsupported operation mean"),
        (Calls(lambda x: x * 3), "unsupported operation mul"),
        (Calls(lambda x: x + 1), "expected a tensor as operand"),
        (Calls(lambda x: x**3), "unsupported operation pow"),
        (Calls(lambda x: F.pad(x, (1, 0))), "expected zeros at the bottom"),
        (Calls(lambda x: F.pad(x, (0, 1), value=2.0)), "expected zeros at the bottom"),
        (Calls(lambda x: F.pad(x, (0, -1))), "expected zeros at the bottom"),
        (Calls(lambda x: torch.flatten(x)), "expected to flatten all axes but the batch"),
        (Calls(lambda x: x if x.sum() > 0 else -x), "cannot trace Sequential"),
        (Calls(lambda x: (x + x, x)), "expected a tensor as operand"),
        (Calls(lambda x: x), "expected one tensor as output"),
        (Calls(lambda x: F.relu(x, inplace=True) + x), "unsupported in-place operation"),
        (nn.Conv2d(2, 2, 3, dilation=2), "expected dilation 1"),
        (nn.Conv2d(2, 2, 3, padding="same"), "expected dilation 1 and integer zero padding"),
        (nn.Conv2d(3, 2, 3), "expected 3 channels, got 2"),
        (nn.Conv2d(2, 2, 9), "cannot build the graph"),
        (nn.Linear(4, 4), "expected an input of 1 axes"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), "expected 5 features, got 32"),
        (nn.BatchNorm2d(2), "expected BatchNorm2d right after a convolution"),
        (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode False"),
        (nn.AvgPool2d(2, padding=1), "expected no padding"),
        (nn.AdaptiveAvgPool2d(2), "expected an output of one pixel"),
        (nn.PReLU(3), "expected 1 or 2 slopes"),
    ],
)
def test_what_the_graph_cannot_express_is_refused(module: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        graph_from_torch(nn.Sequential(module).double(), (2, 4, 4))
    assert "\n" not in str(caught.value)


class Overwriting(nn.Module):
    """Reads a value beside an activation, which may overwrite it."""

    def __init__(self, between: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.convolution, self.between, self.activation = nn.Conv2d(2, 2, 1), between, activation

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        value = self.convolution(image)
        return torch.flatten(self.activation(self.between(value)), 1) + torch.flatten(value, 1)


@pytest.mark.parametrize("between", [nn.Identity(), nn.Dropout(), nn.Flatten()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("kind", [nn.ReLU, lambda inplace: nn.LeakyReLU(0.1, inplace)], ids=["ReLU", "LeakyReLU"])
def test_a_value_that_others_read_is_not_overwritten(kind: Callable[..., nn.Module], between: nn.Module) -> None:
    with pytest.raises(ModelError, match="unsupported in-place operation on a tensor with other readers"):
        graph_from_torch(Overwriting(between, kind(inplace=True)).double(), (2, 4, 4))
    graph, weights = graph_from_torch(Overwriting(between, kind(inplace=False)).double().eval(), (2, 4, 4))
    assert graph.nodes
    assert weights


@pytest.mark.parametrize("name", MODELS)
def test_graph_without_weights_is_the_same(name: str) -> None:
    with_weights, without = load_model(name), load_model(name, weights=False)
    assert without.weights is None
    assert with_weights.weights
    assert with_weights.graph.digest() == without.graph.digest()


def test_graph_without_weights_reads_no_file() -> None:
    assert load_model(weights=False, path="/nonexistent").weights is None
    with pytest.raises(ModelError, match="cannot read model file"):
        load_model(path="/nonexistent")


def test_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="expected a model named dlib-resnet29, patchnet or tiny-test, got 'resnet'"):
        load_model("resnet")


def test_tiny_model_is_reproducible_and_gives_both_answers() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    model, again = load_model("tiny-test"), load_model("tiny-test")
    assert torch.equal(torch.get_rng_state(), state)
    assert model.weights is not None
    assert again.weights is not None
    assert all(np.array_equal(model.weights[name].weight, again.weights[name].weight) for name in model.weights)

    random = np.random.default_rng(3)
    chips = [random.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(6)]
    near = chips[0] ^ 3
    far = [_distance(model, chips[0], chip) for chip in chips[1:]]
    assert _distance(model, chips[0], near) < model.threshold < max(far)
    with pytest.raises(ModelError, match="expected an aligned crop"):
        model.normalise(np.zeros((16, 15, 3), np.uint8))


def _distance(model: Model, left: Any, right: Any) -> float:
    images = torch.from_numpy(np.stack([model.normalise(left), model.normalise(right)]))
    first, second = walk(model.graph, model.weights or {}, images)
    return float((first - second).norm())
