"""A whole network on shares: both parties walk the same layer graph.

Client: the input x (or a share of it), the secret key. Server: the weights, the public key. Output: shares of the
network's output. Convolutions and fully connected layers are private linear layers. ReLU and max-pool are exact
comparisons. Means, sums and padding are local. Each party sees only what the layers' protocols show it: ring-LWE
ciphertexts and uniform numbers. Both know the graph.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from protocols.arithmetic.fixed_point import FRACTION_BITS, RingArray
from protocols.channel import CLIENT, SERVER, Channel
from protocols.correlations import Request, SquarePair
from protocols.encryption.ckks import ClientKeys, PublicKey
from protocols.errors import ParameterError
from protocols.linear.convolution import Multiply, PrivateConvolutionClient, PrivateConvolutionServer
from protocols.linear.packing import ConvPlan
from protocols.linear.planner import CostModel, bytes_up, plan_convolution
from protocols.network.graph import INPUT, Graph, Node, OnLayer, Shape, Weights, layer_weights
from protocols.network.widths import Widths, check_widths
from protocols.shares import local
from protocols.shares.comparison import COMPARISON_BITS, max_pool, max_pool_requests, relu, relu_requests
from protocols.shares.party import MpcParty, arithmetic, to_ring
from protocols.shares.truncation import scale, scale_requests, truncate, truncation_requests

__all__ = ["NetworkClient", "NetworkServer", "halves", "plan_network"]

_BYTES_AHEAD = 16_000_000


def plan_network(graph: Graph, degree: int = 4096, cost: CostModel | None = None) -> dict[str, ConvPlan]:
    """Return the cheapest plan of every private linear layer, by name."""
    return {name: plan_convolution(shape, degree, cost) for name, shape in graph.linear_layers().items()}


def halves(
    plans: Mapping[str, ConvPlan], batch: int = 1, layers: Sequence[str] | None = None
) -> Iterator[tuple[str, bool]]:
    """Yield the halves of the layers' offline work, in order: (name, whether it is the first half, the upload).

    Uploads run some layers ahead of the answers, by at most 16 MB (or one layer). So the server has work while the
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


@dataclass(frozen=True)
class _Shares:
    """The `Operations` on one party's shares.

    Args:
        network: this party's side.
        party: entered in this thread.
        batch: number of images in the run.
    """

    network: "_Network"
    party: MpcParty
    batch: int

    def linear(self, node: Node, value: RingArray) -> RingArray:
        network = self.network
        if value is not None:
            images = value.reshape(*value.shape, *(1,) * (4 - value.ndim))
            output = network._linear(self.party.channel, node.name, images, self.batch)
            return output if value.ndim == 4 else output.reshape(self.batch, -1)
        output = network._linear(self.party.channel, node.name, None, self.batch)  # reads the network's input
        return output if len(network.graph.input_shape) == 3 else output.reshape(self.batch, -1)

    def relu(self, node: Node, value: RingArray) -> RingArray:
        return relu(self.party, value, self.network.widths[node.name])

    def max_pool(
        self, node: Node, value: RingArray, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> RingArray:
        return max_pool(self.party, value, kernel, stride, padding, self.network.widths[node.name])

    def average_pool(self, value: RingArray, kernel: tuple[int, int], stride: tuple[int, int]) -> RingArray:
        return local.average_pool(value, _whole(kernel, value.shape), stride, self.party.rank)

    def square(self, value: RingArray) -> RingArray:
        return truncate(self.party, to_ring(arithmetic(value).square()), FRACTION_BITS)

    def scale(self, value: RingArray, factor: float) -> RingArray:
        return scale(self.party, value, factor)

    def pad(self, value: RingArray, amount: tuple[int, int, int]) -> RingArray:
        return local.pad(value, amount)

    def flatten(self, value: RingArray) -> RingArray:
        return value.reshape(value.shape[0], -1)


@dataclass(frozen=True)
class _Size:
    """The shape of a value, instead of the value."""

    shape: Shape

    def __add__(self, other: Any) -> "_Size":
        return self

    __sub__ = __add__


class _Requests:
    """The `Operations` that only list the correlations that layers use up, in order."""

    def __init__(self, network: "_Network", batch: int) -> None:
        self.requests: list[Request] = []
        self._network, self._batch = network, batch
        self._linear_layers = network.graph.linear_layers()

    def linear(self, node: Node, value: _Size) -> _Size:
        shape = self._linear_layers[node.name]
        image = shape.channels_out, shape.height_out, shape.width_out
        return _Size((self._batch, *image) if len(value.shape) == 4 else (self._batch, int(np.prod(image))))

    def relu(self, node: Node, value: _Size) -> _Size:
        self.requests += relu_requests(int(np.prod(value.shape)), self._network.widths[node.name])
        return value

    def max_pool(
        self, node: Node, value: _Size, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> _Size:
        batch, channels, height, width = value.shape
        bits = self._network.widths[node.name]
        self.requests += max_pool_requests((batch, channels, height, width), kernel, stride, padding, bits)
        return _windows(value, kernel, stride, padding)

    def average_pool(self, value: _Size, kernel: tuple[int, int], stride: tuple[int, int]) -> _Size:
        return _windows(value, _whole(kernel, value.shape), stride, (0, 0))

    def square(self, value: _Size) -> _Size:
        self.requests += [SquarePair(value.shape), *truncation_requests(value.shape, FRACTION_BITS)]
        return value

    def scale(self, value: _Size, factor: float) -> _Size:
        self.requests += scale_requests(value.shape, factor)
        return value

    def pad(self, value: _Size, amount: tuple[int, int, int]) -> _Size:
        batch, *image = value.shape
        return _Size((batch, *(size + more for size, more in zip(image, amount, strict=True))))

    def flatten(self, value: _Size) -> _Size:
        return _Size((self._batch, int(np.prod(value.shape[1:]))))


def _windows(value: _Size, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> _Size:
    sizes = zip(value.shape[2:], kernel, stride, padding, strict=True)
    return _Size((*value.shape[:2], *((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)))


def _whole(kernel: tuple[int, int], shape: Shape) -> tuple[int, int]:
    """Return the kernel, or the size of the images (B, C, H, W) if the kernel is (0, 0)."""
    return kernel if kernel != (0, 0) else (shape[2], shape[3])


class _Network(ABC):
    """The walk through the graph, the same for both parties. Only their linear layers differ."""

    rank: int

    def __init__(self, graph: Graph, widths: Widths | None = None) -> None:
        self.graph = graph
        _check_input_readers(graph)
        check_widths(widths or {}, graph.comparing_layers())
        self.widths = dict.fromkeys(graph.comparing_layers(), COMPARISON_BITS) | dict(widths or {})

    def requests(self, batch: int = 1) -> list[Request]:
        """Return the correlations that one run on `batch` inputs uses up, in order."""
        counted = _Requests(self, batch)
        self.graph.evaluate(counted, _Size((batch, *self.graph.input_shape)))
        return counted.requests

    @property
    @abstractmethod
    def _linear_layers(self) -> Mapping[str, PrivateConvolutionClient | PrivateConvolutionServer]:
        """The private linear layers, by name."""

    def prepare(
        self, channel: Channel, batch: int = 1, on_layer: OnLayer | None = None, layers: Sequence[str] | None = None
    ) -> None:
        """Do the linear layers' offline work for one run on `batch` inputs, together with the other party.

        Args:
            on_layer: called with a layer's name before each half of its work.
            layers: do only these, in this order; the same on both sides.
        """
        plans = {name: layer.plan for name, layer in self._linear_layers.items()}
        for name, first_half in halves(plans, batch, layers):
            if on_layer:
                on_layer(name)
            layer = self._linear_layers[name]
            (layer.begin if first_half else layer.finish)(channel, batch)

    def unload(self, batch: int = 1) -> dict[str, list[RingArray]]:
        """Remove and return the linear layers' part of one prepared run, by layer, so that the caller can keep it."""
        return {name: layer.unload(batch) for name, layer in self._linear_layers.items()}

    def load(self, arrays: Mapping[str, Sequence[RingArray]], batch: int = 1) -> None:
        """Take back the linear layers' part of one prepared run, as `unload` returned it.

        Raises:
            ParameterError: the arrays are not those of this network.
        """
        if arrays.keys() != self._linear_layers.keys():
            raise ParameterError(f"expected arrays of {len(self._linear_layers)} layers, got those of {len(arrays)}")
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
        share = cast(RingArray, value)  # None on the server, whose share of the input only linear layers read
        return self.graph.evaluate(_Shares(self, party, batch), share, on_layer)

    @abstractmethod
    def _linear(self, channel: Channel, name: str, value: RingArray | None, batch: int) -> RingArray:
        """Run a private linear layer on (B, C, H, W)."""


class NetworkClient(_Network):
    """The client's side: it holds the secret key, and never a weight.

    Args:
        plans: of the linear layers, the same as the server's; by default those of `plan_network`.
        widths: of the comparisons, the same as the server's.

    Raises:
        ParameterError: a layer that is no convolution reads the network's input.
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
        plans = plans or plan_network(graph, keys.context.degree)
        self._layers = {name: PrivateConvolutionClient(name, plan, keys) for name, plan in plans.items()}

    @property
    def _linear_layers(self) -> Mapping[str, PrivateConvolutionClient]:
        return self._layers

    def _linear(self, channel: Channel, name: str, value: RingArray | None, batch: int) -> RingArray:
        if value is None:
            raise ParameterError(f"{name}: expected the client's share of its input, got none")
        return self._layers[name].run(channel, value)


class NetworkServer(_Network):
    """The server's side: it holds the weights, and never the secret key.

    Args:
        weights: of every linear layer.
        plans: the same as the client's.
        multiply: takes a layer's name; returns the function that does its homomorphic products. Default: done here.
        on_layer: called with a layer's name before its weights are read.
        widths: the same as the client's.

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


def _check_input_readers(graph: Graph) -> None:
    """Raise `ParameterError` if a layer other than a linear one reads the network's input.

    Only the client has the input, and only linear layers take it encrypted.
    """
    names = [node.name for node in graph.nodes if INPUT in node.inputs and not node.reads_encrypted]
    if names:
        raise ParameterError(f"expected only convolutions to read the network's input, got {names}")
