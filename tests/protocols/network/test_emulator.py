"""The emulator against torch, and what it reports."""

from typing import Any

import numpy as np
import pytest
import torch

from hybridface.models.model import load_model
from hybridface.models.tiny import tiny_module
from protocols import Emulator, Graph, LinearWeights
from protocols.arithmetic.fixed_point import decode
from protocols.errors import ParameterError
from protocols.network import graph as g
from protocols.network import layers

CONV = layers.Conv2d("conv", ("input",), 1)


def identity(scale: float = 1.0, bias: float | None = None) -> dict[str, LinearWeights]:
    return {"conv": LinearWeights(np.full((1, 1, 1, 1), scale), None if bias is None else np.array([bias]))}


def apply(nodes: Any, image: Any, weights: Any = None) -> Any:
    """Run a graph of one-channel images after a convolution by one."""
    image = np.asarray(image, dtype=np.float64)[None, None]
    return Emulator(Graph(image.shape[1:], (CONV, *nodes)), weights or identity()).run(image)


def test_the_tiny_model_is_torchs_within_fixed_point() -> None:
    model = load_model("tiny-test")
    images = np.random.default_rng(3).uniform(-1, 1, (20, 3, 16, 16))
    output = Emulator(model.graph, model.weights).run(images)
    with torch.no_grad():
        exact = tiny_module(True)(torch.from_numpy(images)).numpy()
    assert output.dtype == np.int64
    assert np.abs(output / 2**16 - exact).max() < 2e-3
    assert np.abs(exact).max() > 0.1


def test_a_batch_is_its_images() -> None:
    model = load_model("tiny-test")
    images = np.random.default_rng(4).uniform(-1, 1, (3, 3, 16, 16))
    emulator = Emulator(model.graph, model.weights)
    together = emulator.run(images)
    assert all((emulator.run(images[i : i + 1])[0] == together[i]).all() for i in range(3))


@pytest.mark.parametrize(
    ("node", "image", "expected"),
    [
        (layers.ReLU("a", ("conv",)), [[1.5, -2.0], [0.0, -(2.0**-16)]], [[1.5, 0.0], [0.0, 0.0]]),
        (layers.Square("a", ("conv",)), [[1.5, -3.0]], [[2.25, 9.0]]),
        (layers.MaxPool2d("a", ("conv",), (1, 2), (1, 2)), [[1.0, 2.0, -4.0, -3.0]], [[2.0, -3.0]]),
        (
            layers.MaxPool2d("a", ("conv",), (2, 2), (2, 2), (1, 1)),
            [[-5.0, -6.0], [-7.0, -8.0]],
            [[-5.0, -6.0], [-7.0, -8.0]],
        ),
        (layers.AvgPool2d("a", ("conv",), (1, 4), (1, 4)), [[1.0, 2.0, 3.0, 5.0]], [[2.75]]),
        (layers.AvgPool2d("a", ("conv",), (0, 0), (1, 1)), [[1.0, 2.0], [3.0, -2.0]], [[1.0]]),
        (layers.Pad("a", ("conv",), (0, 1, 2)), [[1.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ],
)
def test_a_layer_by_hand(node: g.Node, image: Any, expected: Any) -> None:
    assert (decode(apply((node,), image).view(np.uint64))[0, 0] == expected).all()


def test_a_mean_over_nine_is_as_exact_as_sixteen_bits() -> None:
    image = np.full((3, 3), 1.0)
    mean = apply((layers.AvgPool2d("a", ("conv",), (3, 3), (1, 1)),), image)[0, 0, 0, 0] / 2**16
    assert mean == 9 * round(2**16 / 9) / 2**16
    assert abs(mean - 1) < 1e-4


def test_add_flatten_and_channels() -> None:
    nodes = (
        layers.Pad("pad", ("conv",), (1, 0, 0)),
        layers.Add("sum", ("pad", "pad")),
        layers.Flatten("flat", ("sum",)),
    )
    assert (apply(nodes, [[1.0, -2.0]])[0] / 2**16).tolist() == [2.0, -4.0, 0.0, 0.0]


def test_prelu_and_fully_connected() -> None:
    nodes = (
        layers.PReLU("slope", ("conv",)),
        layers.Flatten("flat", ("slope",)),
        layers.Conv2d("fc", ("flat",), 2, flat=True),
    )
    weights = {
        **identity(),
        "slope": LinearWeights(np.array([0.25])),
        "fc": LinearWeights(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([0.5, 0.0])),
    }
    assert (apply(nodes, [[-4.0, 3.0]], weights)[0] / 2**16).tolist() == [-0.5, 2.0]


def test_rounding_is_to_the_nearest_in_weights_inputs_and_products() -> None:
    ulp = 2.0**-16
    values = apply((), [[0.4 * ulp, 0.6 * ulp, -0.6 * ulp, 3 * ulp]], identity(0.5))
    assert values.ravel().tolist() == [0, 1, 0, 2]  # halves go up
    assert apply((), [[1.0]], identity(2.0**-20))[0, 0, 0, 0] == 0


def test_the_bias_is_added_after_the_shift() -> None:
    assert apply((), [[1.0]], identity(1.0, -2.5))[0, 0, 0, 0] == -1.5 * 2**16


@pytest.mark.parametrize(
    ("nodes", "largest"),
    [
        ((), 0.0),
        ((layers.ReLU("a", ("conv",)),), 7.0),
        ((layers.MaxPool2d("a", ("conv",), (1, 1), (1, 1)),), 14.0),
        ((layers.Square("a", ("conv",)),), 0.0),
        ((layers.Square("s", ("conv",)), layers.ReLU("a", ("s",))), 49.0),
    ],
)
def test_the_largest_compared_magnitude_is_reported(nodes: Any, largest: float) -> None:
    emulator = Emulator(Graph((1, 1, 2), (CONV, *nodes)), identity())
    emulator.run(np.array([[[[3.0, -7.0]]]]))
    emulator.run(np.array([[[[1.0, 1.0]]]]))
    assert emulator.largest == largest


def test_products_beyond_exact_floats_are_refused() -> None:
    assert apply((), [[2.0**18]])[0, 0, 0, 0] == 2**34
    with pytest.raises(ParameterError, match="conv: expected products below 2"):
        apply((), [[2.0**19]])
    with pytest.raises(ParameterError, match="a square: expected products below 2"):
        apply((layers.Square("s", ("conv",)),), [[2.0**11]])


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match="expected weights for conv"):
        Emulator(Graph((1, 1, 1), (CONV,)), {})
    with pytest.raises(ParameterError, match="conv: expected finite weights"):
        Emulator(Graph((1, 1, 1), (CONV,)), {"conv": LinearWeights(np.ones((2, 1, 1, 1)))})
