"""Whole networks on shares: the emulator's and torch's values, exact preparation, errors on either side."""

from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridface.models.dlib_resnet import ResidualBlock
from hybridface.models.importing.torch_module import graph_from_torch
from hybridface.models.model import load_model
from hybridface.models.tiny import tiny_module
from protocols import ClientKeys, Emulator, Graph, LinearWeights, MpcParty, NetworkClient, NetworkServer, PublicKey
from protocols.arithmetic.fixed_point import decode, encode
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.linear.planner import bytes_up
from protocols.network import graph as g
from protocols.network import layers
from protocols.network.graph import layer_weights
from protocols.network.private import halves
from support.reach import reachable
from support.shares import dealer_bytes, pool_is_empty, run_locally


def run(client: NetworkClient, server: NetworkServer, images: Any, prepare: bool = False, **hooks: Any) -> Any:
    """Run both sides on a batch of images and return the output at 16 fractional bits, as signed integers."""
    batch = len(images)

    def side(party: MpcParty, network: Any, value: Any) -> Any:
        if prepare:
            network.prepare(party.channel, batch)
            party.correlations.prepare(network.requests(batch))
        before = dealer_bytes(party)
        result = network.run(party, value, batch, **hooks)
        if prepare:
            assert pool_is_empty(party)
            assert dealer_bytes(party) == before
        return result

    first, second = run_locally(lambda p: side(p, client, encode(images)), lambda p: side(p, server, None))
    return (first + second).view(np.int64)


def both(keys: ClientKeys, public_key: PublicKey, graph: Graph, weights: g.Weights) -> tuple[Any, Any]:
    return NetworkClient(graph, keys), NetworkServer(graph, weights, public_key)


class Tiny(nn.Module):  # type: ignore[misc]
    """Layers between two convolutions, scaled so that values stay near one."""

    def __init__(self, *layers: Any, channels: int = 4, out: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, channels, 3, 1, 1)
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(out, 3, 1) if out else nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.last(self.layers(self.first(x)))


class Squared(nn.Module):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return x * x


MODULES = {
    "relu": lambda: Tiny(nn.ReLU(), out=4),
    "prelu": lambda: Tiny(nn.PReLU(4), nn.Flatten(), nn.Linear(4 * 49, 6), nn.PReLU(6), out=0),
    "leaky relu": lambda: Tiny(nn.LeakyReLU(0.01), nn.Flatten(), nn.Linear(4 * 49, 6), nn.LeakyReLU(0.3), out=0),
    "square": lambda: Tiny(Squared(), out=4),
    "max-pool": lambda: Tiny(nn.ReLU(), nn.MaxPool2d(3, 2, 1), out=4),
    "average of 3 x 2": lambda: Tiny(nn.AvgPool2d((3, 2), (2, 2)), out=4),
    "global average": lambda: Tiny(nn.AdaptiveAvgPool2d(1), out=4),
    "flatten": lambda: Tiny(nn.Flatten(), nn.Linear(4 * 49, 5), nn.ReLU(), nn.Linear(5, 2), out=0),
    "depthwise": lambda: Tiny(nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.Conv2d(4, 6, 1, groups=2), out=6),
    "pad and add": lambda: Tiny(ResidualBlock(4, 6, 3, 2), out=6),
}


@pytest.mark.parametrize("name", MODULES)
def test_each_kind_of_layer(keys: ClientKeys, public_key: PublicKey, name: str) -> None:
    torch.manual_seed(1)
    module = MODULES[name]().double().eval()
    graph, weights = graph_from_torch(module, (2, 7, 7))
    images = np.random.default_rng(2).uniform(-2, 2, (2, 2, 7, 7))
    client, server = both(keys, public_key, graph, weights)
    output = run(client, server, images, prepare=True)
    emulated = Emulator(graph, weights).run(images)
    assert output.shape == emulated.shape == (2, *graph.output_shape)
    assert np.abs(output - emulated).max() <= 8  # a last bit from each layer, times the weights after it
    with torch.no_grad():
        exact = module(torch.from_numpy(images)).numpy()
    assert np.abs(decode(output.view(np.uint64)) - exact).max() < 2e-3


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_model("tiny-test")


@pytest.mark.parametrize("prepare", [True, False])
def test_the_tiny_model_end_to_end(keys: ClientKeys, public_key: PublicKey, tiny: Any, prepare: bool) -> None:
    images = np.random.default_rng(5).uniform(-1, 1, (2, 3, 16, 16))
    client, server = both(keys, public_key, load_model("tiny-test", weights=False).graph, tiny.weights)
    names: list[str] = []
    output = run(client, server, images, prepare, on_layer=names.append)
    # Each layer errs by a last bit, and the last one sums 16 of them: of deviation 1.3, at most 6 in 40 runs.
    assert np.abs(output - Emulator(tiny.graph, tiny.weights).run(images)).max() <= 10
    with torch.no_grad():
        exact = tiny_module(True)(torch.from_numpy(images)).numpy()
    assert np.abs(decode(output.view(np.uint64)) - exact).max() < 2e-3
    assert sorted(names) == sorted(2 * [node.name for node in tiny.graph.nodes])
    for layer in client._layers.values():
        assert not layer._begun
    for layer in [*client._layers.values(), *server._layers.values()]:
        assert not any(layer._pool.values())


def test_both_sides_ask_for_the_same_correlations(keys: ClientKeys, public_key: PublicKey, tiny: Any) -> None:
    client, server = both(keys, public_key, tiny.graph, tiny.weights)
    assert client.requests(3) == server.requests(3) != client.requests(1)


def test_the_server_never_reaches_the_secret_key_nor_the_client_a_weight(
    keys: ClientKeys, public_key: PublicKey, tiny: Any
) -> None:
    client, server = both(keys, public_key, tiny.graph, tiny.weights)
    run(client, server, np.zeros((1, 3, 16, 16)), prepare=True)
    secrets = (seal.SecretKey, seal.Decryptor, seal.KeyGenerator, ClientKeys)
    found = list(reachable(server))
    assert not [v for v in found if isinstance(v, secrets)]
    assert not [v for v in found if isinstance(v, np.ndarray) and keys._secret[0].tobytes() in v.tobytes()]
    held = list(reachable(client))
    assert keys in [v for v in held if isinstance(v, ClientKeys)]
    assert not [v for v in held if isinstance(v, LinearWeights | PublicKey | NetworkServer)]
    assert not [v for v in held if isinstance(v, np.ndarray) and v.dtype == np.float64]


CONV = layers.Conv2d("conv", ("input",), 2)
ONES = {"conv": LinearWeights(np.ones((2, 1, 1, 1)))}
SMALL = Graph((1, 2, 2), (CONV, layers.ReLU("relu", ("conv",))))


@pytest.mark.timeout(40)
@pytest.mark.parametrize("failing", ["client", "server"])
@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ProtocolError("expected order"), "expected order"),
        (ParameterError("/home/jane/photo.jpg"), "it could not go on"),
        (ZeroDivisionError("a secret"), "it could not go on"),
    ],
)
def test_a_side_that_fails_ends_the_other(
    keys: ClientKeys, public_key: PublicKey, failing: str, failure: Exception, told: str
) -> None:
    client, server = both(keys, public_key, SMALL, ONES)
    seen: list[BaseException] = []

    def fail(name: str) -> None:
        if name == "relu":
            raise failure

    def side(party: MpcParty, network: Any, value: Any, name: str) -> Any:
        try:
            return network.run(party, value, 1, on_layer=fail if name == failing else None)
        except BaseException as error:
            seen.append(error)
            raise

    images = encode(np.zeros((1, 1, 2, 2)))
    with pytest.raises(type(failure)):
        run_locally(lambda p: side(p, client, images, "client"), lambda p: side(p, server, None, "server"), timeout=300)
    (other,) = [error for error in seen if error is not failure]
    assert isinstance(other, PeerLostError)
    assert f"{failing} ended: {told}" in str(other)


@pytest.mark.timeout(40)
def test_peers_with_different_graphs_end_in_an_error(keys: ClientKeys, public_key: PublicKey) -> None:
    other = Graph((1, 2, 2), (CONV, layers.Square("square", ("conv",))))
    client, server = NetworkClient(other, keys), NetworkServer(SMALL, ONES, public_key)
    assert other.digest() != SMALL.digest()
    with pytest.raises(ProtocolError):
        run(client, server, np.zeros((1, 1, 2, 2)))


def test_a_party_of_the_other_rank_is_refused(keys: ClientKeys, public_key: PublicKey) -> None:
    client, server = both(keys, public_key, SMALL, ONES)
    for network, rank in ((client, 1), (server, 0)):
        with pytest.raises(ParameterError, match=f"got rank {rank}"):
            network.run(MpcParty(rank, None, None), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer", [layers.ReLU("a", ("input",)), layers.Flatten("a", ("input",)), layers.Square("a", ("input",))]
)
def test_only_convolutions_may_read_the_input(keys: ClientKeys, public_key: PublicKey, layer: g.Node) -> None:
    graph = Graph((1, 2, 2), (CONV, layer))
    with pytest.raises(ParameterError, match="only convolutions"):
        NetworkClient(graph, keys)
    with pytest.raises(ParameterError, match="only convolutions"):
        NetworkServer(graph, ONES, public_key)


@pytest.mark.parametrize("weight", [None, np.ones((2, 2, 1, 1)), np.full((2, 1, 1, 1), np.nan)])
def test_weights_that_do_not_fit_are_refused(public_key: PublicKey, weight: Any) -> None:
    with pytest.raises(ParameterError, match="conv"):
        NetworkServer(SMALL, {} if weight is None else {"conv": LinearWeights(weight)}, public_key)


@pytest.mark.parametrize("bias", [np.ones(3), np.ones(1), np.full(2, np.nan), np.ones((2, 1))])
def test_a_bias_that_does_not_fit_is_refused(bias: Any) -> None:
    with pytest.raises(ParameterError):
        layer_weights({"conv": LinearWeights(np.ones((2, 1, 1, 1)), bias)}, "conv", ConvShape(1, 2, 2, 2))


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ((), "at least one node"),
        ((CONV, CONV), "'conv' twice"),
        ((layers.Conv2d("input", ("input",), 2),), "'input' twice"),
        ((layers.ReLU("a", ("b",)), layers.ReLU("b", ("input",))), "inputs defined earlier"),
        ((CONV, layers.Add("sum", ("conv", "input"))), "two inputs of one shape"),
        ((CONV, layers.Add("sum", ("conv",))), "two inputs of one shape"),
        ((CONV, layers.Pad("pad", ("conv",), (0, -1, 0))), "expected amounts >= 0"),
        ((layers.Conv2d("conv", ("input",), 3, groups=2),), "groups that divide 1 and 3 channels, got 2"),
        ((layers.Conv2d("conv", ("input",), 1, (3, 3)),), "the output would have shape"),
        ((layers.MaxPool2d("pool", ("input",), (3, 3), (1, 1)),), "the output would have shape"),
        ((layers.MaxPool2d("pool", ("input",), (2, 2), (1, 1), (2, 1)),), "pool: expected padding up to half of the"),
        ((layers.MaxPool2d("pool", ("input",), (2, 2), (0, 1)),), "pool: expected a kernel and a stride of at least 1"),
        ((layers.AvgPool2d("mean", ("input",), (2, 0), (1, 1)),), "mean: expected a kernel and a stride of at least 1"),
        ((layers.Conv2d("conv", ("input",), 2, stride=(1, 0)),), "conv: expected a kernel and a stride of at least 1"),
        ((layers.Conv2d("conv", ("input",), 2, padding=(0, -1)),), "no negative padding"),
        ((layers.Conv2d("conv", ("input",), 2, groups=0),), "groups that divide 1 and 2 channels, got 0"),
        ((layers.LeakyReLU("leaky", ("input",), 2.0**30),), "expected a factor of magnitude"),
        ((layers.LeakyReLU("leaky", ("input",), float("nan")),), "expected a factor of magnitude"),
    ],
)
def test_impossible_graphs_are_refused(nodes: Any, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Graph((1, 2, 2), nodes)


@pytest.mark.parametrize(
    "nodes",
    [
        (layers.Flatten("flat", ("input",)), layers.Conv2d("conv", ("flat",), 1)),
        (layers.Flatten("flat", ("input",)), layers.MaxPool2d("pool", ("flat",), (1, 1), (1, 1))),
        (layers.Conv2d("fc", ("input",), 1, flat=True),),
        (layers.ReLU("relu", ()),),
    ],
)
def test_graphs_whose_axes_do_not_fit_are_refused(nodes: Any) -> None:
    try:
        Graph((1, 2, 2), nodes)
    except ParameterError:
        return
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    pytest.fail("accepted")


def test_last_use_and_digest() -> None:
    graph = Graph((1, 2, 2), (CONV, layers.ReLU("relu", ("conv",)), layers.Add("sum", ("conv", "relu"))))
    assert graph.last_use() == {"input": 0, "conv": 2, "relu": 2}
    renamed = Graph((1, 2, 2), (CONV, layers.ReLU("other", ("conv",)), layers.Add("sum", ("conv", "other"))))
    assert len({graph.digest(), renamed.digest(), SMALL.digest(), Graph((1, 2, 3), (CONV,)).digest()}) == 4
    assert graph.digest() == Graph(graph.input_shape, graph.nodes).digest()


def test_a_pool_moves_before_the_relu_that_only_it_reads() -> None:
    pool = layers.MaxPool2d("pool", ("relu",), (2, 2), (2, 2))
    relu = layers.ReLU("relu", ("conv",))
    swapped = layers.pool_before_relu(Graph((1, 4, 4), (CONV, relu, pool, layers.Flatten("flat", ("pool",)))))
    assert [(node.name, node.inputs) for node in swapped.nodes] == [
        ("conv", ("input",)),
        ("pool", ("conv",)),
        ("relu", ("pool",)),
        ("flat", ("relu",)),
    ]
    shared = Graph((1, 4, 4), (CONV, relu, pool, layers.Flatten("flat", ("relu",))))
    assert layers.pool_before_relu(shared) == shared


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("chosen", [None, range(0, 40, 3), [7], []], ids=["all", "some", "one", "none"])
@given(tiles=st.lists(st.sampled_from([1, 2, 5, 20, 60, 200]), min_size=40, max_size=40))
@settings(max_examples=30, deadline=None)
def test_halves_are_in_order_and_bounded_in_bytes(batch: int, chosen: Any, tiles: list[int]) -> None:
    """Every layer twice, its upload first, answers in the order of uploads, 16 MB or one layer under way."""
    plans = {f"layer {i}": ConvPlan(ConvShape(1, 1, tall, 1), 1, 1, (1, 1)) for i, tall in enumerate(tiles)}
    layers = None if chosen is None else [f"layer {i}" for i in chosen]
    order = list(halves(plans, batch, layers))
    expected = list(plans) if layers is None else layers
    assert [name for name, first in order if first] == expected
    assert [name for name, first in order if not first] == expected
    ahead: list[str] = []
    for place, (name, first) in enumerate(order):
        if first:
            ahead.append(name)
        else:
            assert ahead.pop(0) == name
            rest = [later for later, is_first in order[place:] if is_first]
            if rest:  # an answer comes only when the next upload would be too much
                assert sum(batch * bytes_up(plans[n]) for n in [name, *ahead, rest[0]]) > 16_000_000
        assert len(ahead) <= 1 or sum(batch * bytes_up(plans[n]) for n in ahead) <= 16_000_000
    assert not ahead


def test_both_sides_follow_the_order_of_halves(keys: ClientKeys, public_key: PublicKey, tiny: Any) -> None:
    client, server = both(keys, public_key, tiny.graph, tiny.weights)
    names: tuple[list[str], list[str]] = ([], [])
    layers = ["fc", "conv"]
    run_locally(
        lambda p: client.prepare(p.channel, 2, names[0].append, layers),
        lambda p: server.prepare(p.channel, 2, names[1].append, layers),
    )
    plans = {name: layer.plan for name, layer in client._layers.items()}
    assert names[0] == names[1] == [name for name, _ in halves(plans, 2, layers)]
