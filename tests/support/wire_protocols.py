"""Cases of `wire`: the protocols on shares and ciphertexts, each with the least that its messages depend on."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from parties import local
from parties.local import PartyThread
from parties.session.correlations import Correlations
from parties.transport.queues import local_channels
from protocols.arithmetic.fixed_point import encode
from protocols.channel import CLIENT, Channel
from protocols.correlations import FixedMask
from protocols.correlations.comparison_masks import WIDTHS
from protocols.encryption.bfv.context import BfvContext
from protocols.encryption.bfv.keys import BfvKeys, BfvPublicKey, Seeded
from protocols.encryption.bfv.products import Answerer, ProductShape, ask
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey
from protocols.linear.conversion import (
    CiphertextsToSharesClient,
    CiphertextsToSharesServer,
    SharesToCiphertextsClient,
    SharesToCiphertextsServer,
)
from protocols.linear.convolution import PrivateConvolutionClient, PrivateConvolutionServer, fully_connected_shape
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.matching.distance import reveal_matches, squared_distance
from protocols.matching.names import look_up, seal_names
from protocols.matching.outcome import index_bits, reveal_indices
from protocols.matching.private_templates import TemplateIndex, distances, index_templates
from protocols.matching.reveal import Reveal
from protocols.matching.selection import smallest, smallest_of_groups, with_indices
from protocols.matching.server_list import ServerListClient, ServerListServer
from protocols.network.graph import Graph, LinearWeights
from protocols.network.layers import Add, AvgPool2d, Conv2d, Flatten, MaxPool2d, Pad, PReLU, ReLU, Square
from protocols.network.private import NetworkClient, NetworkServer
from protocols.pure_he import (
    Circuit,
    EncodedNetwork,
    PatchNetShape,
    PatchNetWeights,
    PureHeClient,
    PureHeContext,
    PureHeKeys,
    PureHeParameters,
    PureHeServer,
)
from protocols.shares.comparison import is_below, is_nonnegative, max_pool, maximum, relu
from protocols.shares.party import MpcParty, arithmetic, to_ring
from protocols.shares.truncation import scale, truncate
from protocols.transfers import RandomReceiver, RandomSender
from protocols.transfers.base import receive_base_transfers, send_base_transfers
from support.wire import Recording, case

Side = Callable[[MpcParty], object]
run_locally = partial(local.run_locally, correlations=Correlations.DEALER)


@cache
def numbers(*shape: int, scale: float = 1.0) -> Any:
    """Fixed real numbers, multiples of 2^-10, so that no processor rounds them in another way."""
    drawn = np.random.default_rng(sum(shape)).integers(-(2**10), 2**10, shape)
    return drawn * scale / 2**10


def shares(values: Any) -> tuple[Any, Any]:
    """Fixed shares of fixed-point numbers."""
    first = np.random.default_rng(values.size).integers(0, 2**64, values.shape, dtype=np.uint64)
    return first, encode(values) - first


def on_shares(function: Callable[..., object], *values: Any) -> None:
    """Run `function(party, *shares)` as both parties."""
    pairs = [shares(value) for value in values]
    run_locally(*(partial(_call, function, [pair[rank] for pair in pairs]) for rank in (0, 1)))


def _call(function: Callable[..., object], own: list[Any], party: MpcParty) -> object:
    return function(party, *(share.copy() for share in own))


def between_parties(client: Callable[[Channel], object], server: Callable[[Channel], object]) -> None:
    """Run both sides of a protocol that needs no correlations."""
    to_server, to_client = local_channels("client", "server")
    thread = PartyThread("server", partial(server, to_client), (to_client,))
    thread.start()
    client(to_server)
    thread.join(60)
    if thread.error:
        raise thread.error


# Shares.

for bits in WIDTHS:
    case(f"comparison of {bits} bits")(
        lambda recording, bits=bits: on_shares(partial(is_nonnegative, bits=bits), numbers(70))
    )
    case(f"ReLU on {bits} bits")(lambda recording, bits=bits: on_shares(partial(relu, bits=bits), numbers(70)))


@case("interval")
def _interval(recording: Recording) -> None:
    on_shares(partial(is_below, bound=1 << 16), numbers(70))


@case("maximum")
def _maximum(recording: Recording) -> None:
    on_shares(maximum, numbers(3, 5), numbers(3, 5) - 1)


@case("max-pool")
def _max_pool(recording: Recording) -> None:
    on_shares(partial(max_pool, kernel=(3, 2), stride=(2, 2), padding=(1, 0)), numbers(1, 2, 7, 6))


@case("truncation")
def _truncation(recording: Recording) -> None:
    on_shares(partial(truncate, bits=16), numbers(9))


@case("public factor")
def _public_factor(recording: Recording) -> None:
    on_shares(partial(scale, factor=0.3), numbers(9))


@case("squares")
def _squares(recording: Recording) -> None:
    on_shares(lambda party, x: to_ring(arithmetic(x).square()), numbers(9))


@case("matching")
def _matching(recording: Recording) -> None:
    on_shares(squared_distance, numbers(2, 8), numbers(2, 8) / 2)


for reveal in Reveal:
    case(f"decision for {reveal}")(
        lambda recording, reveal=reveal: on_shares(
            partial(reveal_matches, threshold=0.6, reveal=reveal), numbers(3) ** 2 / 2**16
        )
    )


# Ciphertexts.


def with_keys(
    client: Callable[[MpcParty, ClientKeys], object], server: Callable[[MpcParty, PublicKey], object]
) -> None:
    """Run both sides after the client has sent its public key."""
    context = CkksContext()

    def client_side(party: MpcParty) -> object:
        keys = ClientKeys(context)
        party.channel.send("public key", keys.public_key())
        return client(party, keys)

    def server_side(party: MpcParty) -> object:
        key = party.channel.receive("public key", np.uint64, (2, 2, context.degree))
        return server(party, PublicKey(context, key))

    run_locally(client_side, server_side)


@case("conversions")
def _conversions(recording: Recording) -> None:
    own, other = shares(numbers(1, 1, 4096))
    places = np.arange(0, 4096, 7)

    def client(party: MpcParty, keys: ClientKeys) -> None:
        SharesToCiphertextsClient(keys).run(party.channel, "up", own)
        CiphertextsToSharesClient(keys).run(party.channel, "down", (1, 1, places.size), 6, places)

    def server(party: MpcParty, key: PublicKey) -> None:
        ciphertexts = SharesToCiphertextsServer(key.context).run(party.channel, "up", (1, 1), other)
        CiphertextsToSharesServer(key).run(party.channel, "down", ciphertexts, places, 6)

    with_keys(client, server)


_LAYERS = {
    "strided convolution": ConvShape(3, 9, 8, 5, (3, 3), (2, 2), (1, 0)),
    "grouped convolution": ConvShape(4, 6, 6, 4, (3, 3), padding=(1, 1), groups=2),
    "fully connected": fully_connected_shape(12, 5),
    "tiled convolution": ConvPlan(ConvShape(2, 12, 12, 3, (3, 3)), 1, 2, (5, 10)),
}


def _layer(shape: ConvShape | ConvPlan, recording: Recording) -> None:
    plain = shape.shape if isinstance(shape, ConvPlan) else shape
    images = numbers(2, plain.channels, plain.height, plain.width)
    weight = numbers(plain.channels_out, plain.channels // plain.groups, *plain.kernel)
    pair = shares(images)

    def client(party: MpcParty, keys: ClientKeys) -> None:
        layer = PrivateConvolutionClient("layer", shape, keys)
        layer.prepare(party.channel, 2)
        layer.run(party.channel, pair[0])

    def server(party: MpcParty, key: PublicKey) -> None:
        layer = PrivateConvolutionServer("layer", shape, key, weight, numbers(plain.channels_out))
        layer.prepare(party.channel, 2)
        layer.run(party.channel, pair[1])

    with_keys(client, server)


for name, shape in _LAYERS.items():
    case(name)(partial(_layer, shape))


@case("network of every layer")
def _network(recording: Recording) -> None:
    graph = Graph(
        (2, 8, 8),
        (
            Conv2d("conv", ("input",), 4, (3, 3), padding=(1, 1)),
            ReLU("relu", ("conv",)),
            MaxPool2d("pool", ("relu",), (2, 2), (2, 2)),
            PReLU("prelu", ("pool",)),
            Conv2d("depthwise", ("prelu",), 4, (3, 3), padding=(1, 1), groups=4),
            Add("sum", ("depthwise", "pool")),
            Square("square", ("sum",)),
            Pad("pad", ("square",), (1, 0, 1)),
            AvgPool2d("mean", ("pad",), (2, 2), (2, 2)),
            Flatten("flat", ("mean",)),
            Conv2d("dense", ("flat",), 6, flat=True),
        ),
    )
    weights = {
        "conv": LinearWeights(numbers(4, 2, 3, 3), numbers(4)),
        "prelu": LinearWeights(numbers(4)),
        "depthwise": LinearWeights(numbers(4, 1, 3, 3)),
        "dense": LinearWeights(numbers(6, 20), numbers(6)),
    }
    widths = {"relu": 22, "prelu": 28}

    def client(party: MpcParty, keys: ClientKeys) -> None:
        network = NetworkClient(graph, keys, widths=widths)
        party.correlations.prepare(network.requests(2))
        network.prepare(party.channel, 2)
        network.run(party, encode(numbers(2, 2, 8, 8)), 2)

    def server(party: MpcParty, key: PublicKey) -> None:
        network = NetworkServer(graph, weights, key, widths=widths)
        party.correlations.prepare(network.requests(2))
        network.prepare(party.channel, 2)
        network.run(party, None, 2)

    with_keys(client, server)


# Transfers, and exact encryption.


@case("base transfers")
def _base_transfers(recording: Recording) -> None:
    choices = (numbers(5) > 0).astype(np.uint8)
    between_parties(
        lambda channel: receive_base_transfers(channel, "base", choices),
        lambda channel: send_base_transfers(channel, "base", choices.size),
    )


for kind in ("iknp", "silent"):
    case(f"random transfers, {kind}")(
        lambda recording, kind=kind: between_parties(
            lambda channel: RandomReceiver(channel, "transfers", kind).draw(300_000),
            lambda channel: RandomSender(channel, "transfers", kind).draw(300_000),
        )
    )


@case("BFV products")
def _bfv_products(recording: Recording) -> None:
    context = BfvContext()
    rows = np.random.default_rng(0).integers(0, 2**64, (40, 16), dtype=np.uint64)
    shape = ProductShape(*rows.shape, context.degree)

    def client(channel: Channel) -> None:
        keys = BfvKeys(context)
        for seeded in (keys.public, ask(shape, keys, rows[0])):
            channel.send("seeds", seeded.seeds)
            for body in seeded.bodies:
                channel.send("body", body)

    def server(channel: Channel) -> None:
        key, vector = (_receive_seeded(channel, count, context) for count in (1, shape.ciphertexts))
        answerer = Answerer(
            shape, context, BfvPublicKey(context, key), vector, lambda first, count: rows[first : first + count]
        )
        for first, count, blocks in shape.parts():
            channel.send("answer", answerer.answer(first, count, blocks)[0])

    between_parties(client, server)


def _receive_seeded(channel: Channel, count: int, context: BfvContext) -> Seeded:
    seeds = channel.receive("seeds", np.uint8, (2, 32))
    first, second = (channel.receive("body", np.uint64, (count, 2, context.degree)) for _ in range(2))
    return Seeded(seeds, (first, second))


# Identification.


def _mask(party: MpcParty) -> FixedMask:
    mask = FixedMask((bytes([party.rank]) * 32,), 8)
    party.correlations.tell_mask(mask)  # type: ignore[attr-defined]
    return mask


for maker in Correlations:

    def _templates(recording: Recording, maker: Correlations = maker) -> None:
        pairs = shares(numbers(20, 8)), shares(numbers(8))
        rows = np.arange(100, 120)

        def side(party: MpcParty) -> None:
            mask = _mask(party)
            opened, norms = index_templates(party, mask, pairs[0][party.rank], rows)
            distances(party, TemplateIndex(mask, 100, opened, norms), pairs[1][party.rank].copy())

        local.run_locally(side, side, correlations=maker)

    case(f"private templates, {maker}")(_templates)


@case("smallest of keys")
def _smallest(recording: Recording) -> None:
    def side(party: MpcParty, values: Any) -> None:
        keys = with_indices(values, np.arange(values.size), 5, party.rank)
        smallest(party, keys, 3)
        smallest_of_groups(party, keys, [1, 3, values.size - 4])

    on_shares(side, numbers(11))


for reveal in Reveal:

    def _outcome(recording: Recording, reveal: Reveal = reveal) -> None:
        def side(party: MpcParty, values: Any) -> None:
            bits = index_bits(5)
            keys = with_indices(values, np.arange(5), bits, party.rank)
            reveal_indices(party, keys, int(encode(0.5)), bits, reveal)

        on_shares(side, np.abs(numbers(5)))

    case(f"outcome for {reveal}")(_outcome)


@case("names")
def _names(recording: Recording) -> None:
    def client(party: MpcParty) -> None:
        party.channel.receive("sealed", np.uint8, (5, 81))
        look_up(party, 3, 2, indices=[1, None])

    def server(party: MpcParty) -> None:
        sealed, keys = seal_names(["Ann", "x" * 120, "two words"])
        party.channel.send("sealed", sealed)
        look_up(party, 3, 2, keys=keys)

    run_locally(client, server)


@case("server's list")
def _server_list(recording: Recording) -> None:
    templates = (numbers(30, 8) * 2**16).astype(np.int32)
    pair = shares(numbers(8))

    def client(party: MpcParty, keys: ClientKeys) -> None:
        side = ServerListClient(keys, *templates.shape)
        side.prepare(party.channel)
        side.distances(party, pair[CLIENT])

    def server(party: MpcParty, key: PublicKey) -> None:
        side = ServerListServer(key, templates)
        side.prepare(party.channel)
        side.distances(party, pair[1 - CLIENT])

    with_keys(client, server)


@case("pure HE")
def _pure_he(recording: Recording) -> None:
    shape = PatchNetShape(4, 12, (8,), 8)
    context = PureHeContext(PureHeParameters(8192, levels=4, scale_bits=30, first_bits=42, special_bits=52))
    circuit = Circuit(context, shape)
    weights = PatchNetWeights(
        (numbers(4, 8, 12, scale=0.25),), (numbers(4, 8),), numbers(8, 4, 8, scale=0.25), numbers(8)
    )

    def client(channel: Channel) -> None:
        side = PureHeClient(PureHeKeys(circuit))
        side.prepare(channel)
        side.upload(channel, numbers(4, 12))
        side.run(channel, numbers(4, 12) / 2)

    def server(channel: Channel) -> None:
        side = PureHeServer(EncodedNetwork(circuit, weights), 2.0**-10)
        side.prepare(channel)
        side.run(channel, side.extract(channel))

    between_parties(client, server)
