"""A whole network on shares: both parties walk the same layer graph.

Client: the input x (or a share of it), the secret key. Server: the weights, the public key. Output: shares of the
network's output. Convolutions and fully connected layers are private linear layers, ReLU and max-pool exact
comparisons, means, sums and padding local. Each party sees only what the layers' protocols show it: ring-LWE
ciphertexts and uniform numbers. Both know the graph.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import FRACTION_BITS, RingArray
from protocols.channel import CLIENT, SERVER, Channel
from protocols.correlations import Request, SquarePair
from protocols.encryption.ckks import ClientKeys, PublicKey
from protocols.errors import ParameterError
from protocols.linear.convolution import Multiply, PrivateConvolutionClient, PrivateConvolutionServer
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.linear.planner import CostModel, bytes_up, plan_convolution
from protocols.network.graph import (
    INPUT,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Graph,
    MaxPool2d,
    Node,
    Pad,
    PReLU,
    ReLU,
    Square,
    Weights,
)
from protocols.network.widths import Widths, check_widths
from protocols.shares import local
from protocols.shares.comparison import COMPARISON_BITS, max_pool, max_pool_requests, relu, relu_requests
from protocols.shares.party import MpcParty, arithmetic, to_ring
from protocols.shares.truncation import truncate, truncation_requests

__all__ = [
    "NetworkClient",
    "NetworkServer",
    "comparing_layers",
    "convolution_shapes",
    "halves",
    "layer_weights",
    "plan_network",
]

_BYTES_AHEAD = 16_000_000

OnLayer = Callable[[str], None]
"""Called with a layer's name before it runs."""


def convolution_shapes(graph: Graph) -> dict[str, ConvShape]:
    """Return the private linear layers of a graph by name: convolutions, fully connected layers, PReLU's slopes."""
    shapes = graph.shapes()
    result = {}
    for node in graph.nodes:
        source = shapes[node.inputs[0]]
        if isinstance(node, Conv2d):
            channels, height, width = (source[0], 1, 1) if node.flat else source
            result[node.name] = ConvShape(
                channels, height, width, node.channels_out, node.kernel, node.stride, node.padding, node.groups
            )
        elif isinstance(node, PReLU):
            channels, height, width = (*source, 1, 1)[:3]
            result[node.name] = ConvShape(channels, height, width, channels, groups=channels)
    return result


def comparing_layers(graph: Graph) -> dict[str, Node]:
    """Return the layers that compare, by name: ReLU, PReLU, max-pool."""
    return {node.name: node for node in graph.nodes if isinstance(node, ReLU | PReLU | MaxPool2d)}


def plan_network(graph: Graph, degree: int = 4096, cost: CostModel | None = None) -> dict[str, ConvPlan]:
    """Return the cheapest plan of every private linear layer, by name."""
    return {name: plan_convolution(shape, degree, cost) for name, shape in convolution_shapes(graph).items()}


def halves(
    plans: Mapping[str, ConvPlan], batch: int = 1, layers: Sequence[str] | None = None
) -> Iterator[tuple[str, bool]]:
    """Yield the order of the layers' offline work: (name, whether it is the first half, the upload).

    Uploads are some layers ahead of the answers, 16 MB at most (or one layer), so that the server has work while the
    client encrypts and while messages travel. Both sides follow the same order.
    """
    waiting = deque(plans if layers is None else layers)
    ahead: deque[str] = deque()
    in_flight = 0
    while waiting or ahead:
        size = batch * bytes_up(plans[waiting[0]]) if waiting else 0
        if waiting and (not ahead or in_flight + size <= _BYTES_AHEAD):
            ahead.append(waiting.popleft())
            in_flight += size
            yield ahead[-1], True
        else:
            in_flight -= batch * bytes_up(plans[ahead[0]])
            yield ahead.popleft(), False


class _Network(ABC):
    """The walk that both parties share; linear layers differ."""

    rank: int

    def __init__(self, graph: Graph, widths: Widths | None = None) -> None:
        self.graph = graph
        check_widths(widths or {}, comparing_layers(graph))
        self._widths = dict.fromkeys(comparing_layers(graph), COMPARISON_BITS) | dict(widths or {})
        self._shapes = graph.shapes()
        self._last_use = graph.last_use()

    def requests(self, batch: int = 1) -> list[Request]:
        """Return the correlations that one run on `batch` inputs uses up, in order."""
        requests: list[Request] = []
        for node in self.graph.nodes:
            shape = (batch, *self._shapes[node.inputs[0]])
            if isinstance(node, ReLU | PReLU):
                requests += relu_requests(int(np.prod(shape)), self._widths[node.name])
            elif isinstance(node, MaxPool2d) and len(shape) == 4:
                requests += max_pool_requests(shape, node.kernel, node.stride, node.padding, self._widths[node.name])
            elif isinstance(node, Square):
                requests += [SquarePair(shape), *truncation_requests(shape, FRACTION_BITS)]
        return requests

    @property
    @abstractmethod
    def _linear_layers(self) -> Mapping[str, PrivateConvolutionClient | PrivateConvolutionServer]:
        """The private linear layers, by name."""

    def prepare(
        self, channel: Channel, batch: int = 1, on_layer: OnLayer | None = None, layers: Sequence[str] | None = None
    ) -> None:
        """Do, with the other party, the linear layers' offline work for one run on `batch` inputs.

        Args:
            on_layer: called before either half of a layer.
            layers: only these, in this order; the same on both sides.
        """
        plans = {name: layer.plan for name, layer in self._linear_layers.items()}
        for name, first_half in halves(plans, batch, layers):
            if on_layer:
                on_layer(name)
            layer = self._linear_layers[name]
            (layer.begin if first_half else layer.finish)(channel, batch)

    def unload(self, batch: int = 1) -> dict[str, list[RingArray]]:
        """Give away what the linear layers have prepared for one run, to be kept elsewhere; by layer."""
        return {name: layer.unload(batch) for name, layer in self._linear_layers.items()}

    def load(self, arrays: Mapping[str, Sequence[RingArray]], batch: int = 1) -> None:
        """Take what `unload` gave.

        Raises:
            ParameterError: it is not this network's.
        """
        if arrays.keys() != self._linear_layers.keys():
            raise ParameterError(f"expected what {len(self._linear_layers)} layers prepared, got that of {len(arrays)}")
        for name, layer in self._linear_layers.items():
            layer.load(batch, arrays[name])

    def run(
        self, party: MpcParty, value: RingArray | None, batch: int = 1, on_layer: OnLayer | None = None
    ) -> RingArray:
        """Return this party's share of the network's output, uint64 (B, ...) at 16 fractional bits.

        Args:
            party: entered in this thread, of this side's rank.
            value: uint64 (B, C, H, W): the input for the client, None for the server.
        """
        if party.rank != self.rank:
            raise ParameterError(f"expected a party of rank {self.rank}, got rank {party.rank}")
        values: dict[str, RingArray | None] = {INPUT: value}
        for index, node in enumerate(self.graph.nodes):
            if on_layer:
                on_layer(node.name)
            values[node.name] = self._apply(party, node, [values[name] for name in node.inputs], batch)
            for name in {*node.inputs} & {n for n, last in self._last_use.items() if last == index}:
                del values[name]
        result = values[self.graph.nodes[-1].name]
        return _present(result)

    @abstractmethod
    def _linear(self, channel: Channel, name: str, value: RingArray | None, batch: int) -> RingArray:
        """Run a private linear layer on (B, C, H, W)."""

    def _apply(self, party: MpcParty, node: Node, inputs: list[RingArray | None], batch: int) -> RingArray:
        if isinstance(node, Conv2d):
            value = inputs[0]
            if node.flat and value is not None:
                value = value.reshape(*value.shape, 1, 1)
            output = self._linear(party.channel, node.name, value, batch)
            return output[:, :, 0, 0] if node.flat else output
        values = [_present(value) for value in inputs]
        if isinstance(node, PReLU):
            return self._prelu(party, node, values[0], batch)
        return _apply_shared(party, node, values, self._widths.get(node.name, COMPARISON_BITS))

    def _prelu(self, party: MpcParty, node: PReLU, value: RingArray, batch: int) -> RingArray:
        """max(x, 0) + a min(x, 0): the private slopes are a 1x1 convolution of one channel each."""
        positive = relu(party, value, self._widths[node.name])
        negative = (value - positive).reshape(*value.shape, *(1,) * (4 - value.ndim))
        return positive + self._linear(party.channel, node.name, negative, batch).reshape(value.shape)


def _apply_shared(party: MpcParty, node: Node, values: list[RingArray], bits: int) -> RingArray:
    """Apply a layer without private weights; if it compares, on so many bits."""
    value = values[0]
    match node:
        case ReLU():
            return relu(party, value, bits)
        case MaxPool2d():
            return max_pool(party, value, node.kernel, node.stride, node.padding, bits)
        case AvgPool2d():
            kernel = node.kernel if node.kernel != (0, 0) else (value.shape[2], value.shape[3])
            return local.average_pool(value, kernel, node.stride, party.rank)
        case Square():
            return truncate(party, to_ring(arithmetic(value).square()), FRACTION_BITS)
        case Add():
            return values[0] + values[1]
        case Pad():
            return local.pad(value, node.amount)
        case Flatten():
            return value.reshape(value.shape[0], -1)
    raise ParameterError(f"{node.name}: expected a known layer, got {type(node).__name__}")


class NetworkClient(_Network):
    """The client's side: holds the secret key, never a weight.

    Args:
        plans: of the linear layers, as the server's; by default those of `plan_network`.
        widths: of the comparisons, as the server's.

    Raises:
        ParameterError: the graph's first layers are not a convolution of the input, the only layer that may read it.
    """

    rank = CLIENT

    def __init__(
        self,
        graph: Graph,
        keys: ClientKeys,
        plans: Mapping[str, ConvPlan] | None = None,
        widths: Widths | None = None,
    ) -> None:
        super().__init__(graph, widths)
        _check_input_readers(graph)
        plans = plans or plan_network(graph, keys.context.degree)
        self._layers = {name: PrivateConvolutionClient(name, plan, keys) for name, plan in plans.items()}

    @property
    def _linear_layers(self) -> Mapping[str, PrivateConvolutionClient]:
        return self._layers

    def _linear(self, channel: Channel, name: str, value: RingArray | None, batch: int) -> RingArray:
        return self._layers[name].run(channel, _present(value))


class NetworkServer(_Network):
    """The server's side: holds the weights, never the secret key.

    Args:
        weights: of every linear layer.
        plans: as the client's.
        multiply: returns what does a layer's homomorphic products; by default they are done here.
        on_layer: called before a layer's weights are taken in.
        widths: as the client's.

    Raises:
        ParameterError: weights are missing or do not fit the graph.
    """

    rank = SERVER

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        public_key: PublicKey,
        plans: Mapping[str, ConvPlan] | None = None,
        multiply: Callable[[str], Multiply] | None = None,
        on_layer: OnLayer | None = None,
        widths: Widths | None = None,
    ) -> None:
        super().__init__(graph, widths)
        _check_input_readers(graph)
        self._layers = {}
        for name, plan in (plans or plan_network(graph, public_key.context.degree)).items():
            if on_layer:
                on_layer(name)
            weight, bias = layer_weights(weights, name, plan.shape)
            products = multiply(name) if multiply else None
            self._layers[name] = PrivateConvolutionServer(name, plan, public_key, weight, bias, products)

    @property
    def _linear_layers(self) -> Mapping[str, PrivateConvolutionServer]:
        return self._layers

    def _linear(self, channel: Channel, name: str, value: RingArray | None, batch: int) -> RingArray:
        return self._layers[name].run(channel, value, batch)


def layer_weights(
    weights: Weights, name: str, shape: ConvShape
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return a layer's weights as a convolution's (M, C / groups, kh, kw), and its bias.

    Raises:
        ParameterError: they are missing, of another size, or not finite.
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


def _check_input_readers(graph: Graph) -> None:
    """The network's input is the client's alone, so only linear layers, which take it encrypted, may read it."""
    readers = [node for node in graph.nodes if INPUT in node.inputs]
    if not all(isinstance(node, Conv2d) for node in readers):
        names = [node.name for node in readers if not isinstance(node, Conv2d)]
        raise ParameterError(f"expected only convolutions to read the network's input, got {names}")


def _present(value: RingArray | None) -> RingArray:
    if value is None:
        raise ParameterError("expected a share, got none")
    return value
