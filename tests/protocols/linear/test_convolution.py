"""Private linear layers against torch in float64, and what each side's objects can reach."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from parties.transport.queues import local_channels
from protocols import ClientKeys, ConvPlan, ConvShape, PrivateConvolutionClient, PrivateConvolutionServer, PublicKey
from protocols.arithmetic.fixed_point import decode, encode, share
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.linear.conversion import MaskedCiphertexts, Upload
from protocols.linear.convolution import MaskedProducts, encode_weights, fully_connected_shape
from protocols.linear.plain_convolution import quantise
from support.convolutions import plans
from support.frames import record, send_again
from support.reach import reachable
from support.residues import integers
from support.shares import run_locally
from support.statistics import assert_uniform, assert_uniform_bytes

ULP = 2.0**-16
WEIGHT_BITS, GUARD_BITS = 18, 6
SHAPES = {
    "pointwise": ConvShape(5, 6, 6, 7),
    "3x3, padded": ConvShape(4, 9, 8, 6, (3, 3), (1, 1), (1, 1)),
    "7x7, strided": ConvShape(3, 20, 20, 4, (7, 7), (2, 2)),
    "uneven": ConvShape(2, 9, 7, 3, (2, 3), (3, 1), (0, 1)),
    "strided pointwise": ConvShape(6, 8, 8, 6, (1, 1), (2, 2)),
    "depthwise": ConvShape(8, 8, 8, 8, (3, 3), (1, 1), (1, 1), 8),
    "grouped": ConvShape(6, 5, 5, 9, (3, 3), (2, 2), (1, 1), 3),
    "tiles": ConvShape(1, 90, 90, 1, (3, 3)),
    "fully connected": fully_connected_shape(70, 50),
}


def random_layer(shape: ConvShape, batch: int, seed: int = 0) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    images = random.uniform(-4, 4, (batch, shape.channels, shape.height, shape.width))
    images.flat[:3] = [100, -100, 0]
    weight = random.uniform(-1, 1, (shape.channels_out, shape.channels // shape.groups, *shape.kernel))
    return images, weight, random.uniform(-3, 3, shape.channels_out)


def in_the_clear(shape: ConvShape, images: Any, weight: Any, bias: Any) -> Any:
    """The exact convolution of the rounded numbers, in units of a last bit, before the shift."""
    result = torch.nn.functional.conv2d(
        torch.from_numpy(encode(images).view(np.int64).astype(np.float64)),
        torch.from_numpy(quantise(weight, WEIGHT_BITS).astype(np.float64)),
        stride=shape.stride,
        padding=shape.padding,
        groups=shape.groups,
    ).numpy()
    assert np.abs(result).max() < 2**53
    return result / 2**WEIGHT_BITS + (0 if bias is None else encode(bias).view(np.int64)[:, None, None])


def tolerance(server: PrivateConvolutionServer, weight: Any) -> float:
    """One last bit, and seven deviations: noise 3.3 times the norm of an output's polynomials, and the dropped bits."""
    squares = np.zeros(server.plan.groups_out)
    polynomials = server.plan.pack_weights(quantise(weight, WEIGHT_BITS))
    for (group_out, _), polynomial in zip(server.plan.blocks(), polynomials, strict=True):
        squares[group_out] += (polynomial.astype(np.float64) ** 2).sum()
    deviation = 3.3 * float(np.sqrt(squares.max())) + 2**17.9
    return 1 + 7 * deviation / 2 ** (WEIGHT_BITS + GUARD_BITS)


def run(client: Any, server: Any, images: Any, private: bool = False) -> Any:
    """Run both sides on fresh shares of images and return the output, in units of a last bit."""
    values = encode(images)
    first, second = (values, None) if private else share(values)
    ours, theirs = run_locally(
        lambda party: client.run(party.channel, first),
        lambda party: server.run(party.channel, second, len(images)),
    )
    return (ours + theirs).view(np.int64)


def prepare(client: Any, server: Any, batch: int = 1) -> None:
    run_locally(
        lambda party: client.prepare(party.channel, batch),
        lambda party: server.prepare(party.channel, batch),
    )


def layer(keys: ClientKeys, public_key: PublicKey, shape: Any, weight: Any, bias: Any = None) -> Any:
    return (
        PrivateConvolutionClient("layer", shape, keys),
        PrivateConvolutionServer("layer", shape, public_key, weight, bias),
    )


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_a_layer_is_off_by_one_last_bit_and_the_stated_noise(
    keys: ClientKeys, public_key: PublicKey, name: str, private: bool
) -> None:
    shape = SHAPES[name]
    images, weight, bias = random_layer(shape, batch=2)
    client, server = layer(keys, public_key, shape, weight, bias)
    output = run(client, server, images, private)
    exact = in_the_clear(shape, images, weight, bias)
    assert output.shape == exact.shape == (2, shape.channels_out, shape.height_out, shape.width_out)
    assert np.abs(output - exact).max() <= tolerance(server, weight)
    real = torch.nn.functional.conv2d(
        *map(torch.from_numpy, (images, weight, bias)), shape.stride, shape.padding, groups=shape.groups
    ).numpy()
    assert np.abs(decode(output.view(np.uint64)) - real).max() < 0.02


@pytest.mark.parametrize("batch", [1, 8, 9])
def test_any_batch_with_and_without_prepare(keys: ClientKeys, public_key: PublicKey, batch: int) -> None:
    shape = SHAPES["3x3, padded"]
    images, weight, _ = random_layer(shape, batch)
    client, server = layer(keys, public_key, shape, weight)
    exact = in_the_clear(shape, images, weight, None)
    for prepared in (True, False):
        if prepared:
            prepare(client, server, batch)
            prepare(client, server, batch + 1)
        assert np.abs(run(client, server, images) - exact).max() <= tolerance(server, weight)
        assert [size for size, pool in client._pool.items() if pool] == [batch + 1]
        assert [size for size, pool in server._pool.items() if pool] == [batch + 1]
        assert not client._begun


def test_a_plan_may_be_given(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = SHAPES["grouped"]
    images, weight, bias = random_layer(shape, batch=3)
    plan = ConvPlan(shape, block_in=7, block_out=2, tile=(2, 3))
    client, server = layer(keys, public_key, plan, weight, bias)
    error = run(client, server, images) - in_the_clear(shape, images, weight, bias)
    assert np.abs(error).max() <= tolerance(server, weight)


def run_in_turn(client: Any, server: Any, images: Any, ours: Any, theirs: Any) -> Any:
    """Run both sides without threads: each message waits in its channel until the other side's turn."""
    to_server, to_client = local_channels("client", "server", 5)
    client.begin(to_server, len(images))
    server.prepare(to_client, len(images))
    client.finish(to_server, len(images))
    output = client.run(to_server, ours)
    return (output + server.run(to_client, theirs, len(images))).view(np.int64)


@pytest.mark.slow
@given(plan=plans((4096,)), seed=st.integers(0, 2**32), batch=st.integers(1, 2), private=st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_plan_changes_the_result(
    keys: ClientKeys, public_key: PublicKey, plan: ConvPlan, seed: int, batch: int, private: bool
) -> None:
    """Any valid plan and the planner's own: within one last bit (and noise) of the plaintext convolution."""
    assume(plan.tile_count * (plan.groups_in + plan.groups_out) + len(plan.blocks()) <= 120)
    shape = plan.shape
    images, weight, bias = random_layer(shape, batch, seed)
    weight /= 16
    values = encode(images)
    ours, theirs = (values, None) if private else share(values)
    exact = in_the_clear(shape, images, weight, bias)
    for choice in (plan, shape):
        client, server = layer(keys, public_key, choice, weight, bias)
        output = run_in_turn(client, server, images, ours, theirs)
        assert output.shape == exact.shape
        assert np.abs(output - exact).max() <= tolerance(server, weight) < 1.5


@pytest.mark.parametrize("bias", [None, np.array([1.5, -2.25, 0.0])])
def test_zero_weights_give_the_bias_and_nothing_else(keys: ClientKeys, public_key: PublicKey, bias: Any) -> None:
    shape = ConvShape(2, 4, 4, 3)
    images, weight, _ = random_layer(shape, batch=1)
    output = run(*layer(keys, public_key, shape, np.zeros_like(weight), bias), images)
    expected = np.zeros(3) if bias is None else bias / ULP
    assert np.abs(output - expected[:, None, None]).max() <= 1


def test_a_worker_may_make_some_of_the_output_ciphertexts(keys: ClientKeys, public_key: PublicKey) -> None:
    """Slices of output groups, each by itself, are the whole: they open to the same numbers with their masks."""
    shape = ConvShape(6, 8, 8, 9, (3, 3), (1, 1), (1, 1))
    _, weight, _ = random_layer(shape, batch=1)
    plan = ConvPlan(shape, 4, 2, (4, 8))
    context = public_key.context
    polynomials = encode_weights(context, plan, weight)
    assert polynomials.shape == (2, 8, len(plan.blocks()), 512)
    products = MaskedProducts(plan, public_key, lambda: polynomials)
    client = PrivateConvolutionClient("layer", plan, keys)
    _, (_, to_client) = upload(client)
    degree = context.degree
    received = Upload.receive(to_client, "layer/upload", plan.tile_count, plan.groups_in, degree)

    def value(masked: Any) -> Any:
        modulus = keys.context.modulus
        c1 = modulus.from_short_wire(masked.c1, "test").reshape(-1, 2, degree)
        product = keys.multiply_by_secret(c1).reshape(*masked.c1.shape[:2], 2, degree)[..., plan.output_indices]
        opened = modulus.add(modulus.from_short_wire(masked.c0, "test"), product)
        total = modulus.add(opened, masked.mask)
        return [integers(modulus, rows) for rows in total.reshape(-1, *total.shape[2:])]

    whole = products.begin(received)()
    parts = [products.run(received, groups) for groups in (slice(0, 2), slice(2, 3), slice(3, None))]
    assert [part.c1.shape[0] for part in parts] == [2, 1, 2]
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("c1", "c0", "mask")]
    q = context.modulus.p0 * context.modulus.p1
    for ours, theirs in zip(value(whole), value(MaskedCiphertexts(*joined)), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert min((a - b) % q, (b - a) % q) < 2**23  # noise: nothing of the product's 58 bits


def upload(client: Any, batch: int = 1) -> tuple[list[bytes], Any]:
    """Return the frames of a client's offer, and the server's end of a channel to play them on."""
    to_server, to_client = local_channels("client", "server", 5)
    frames = record(to_server)
    client.begin(to_server, batch)
    return frames, (to_server, to_client)


def test_zero_weights_are_sent_masked_and_encrypted_like_any(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = ConvShape(2, 4, 4, 3)
    _, weight, _ = random_layer(shape, batch=1)
    sizes = []
    for values in (weight, np.zeros_like(weight)):
        client, server = layer(keys, public_key, shape, values)
        _, (_, to_client) = upload(client)
        sent = record(to_client)
        server.prepare(to_client)
        sizes.append([len(frame) for frame in sent])
        body = np.frombuffer(sent[0], dtype=np.uint8)[-4096 * 10 :]
        assert_uniform(body[: 8 * 4096], 256)
        masked = np.frombuffer(sent[1], dtype=np.uint8)[-3 * 16 * 10 :]
        assert len(np.unique(masked[: 8 * 3 * 16])) > 150
    assert sizes[0] == sizes[1]


def test_the_same_upload_is_never_answered_alike(keys: ClientKeys, public_key: PublicKey) -> None:
    """Without a fresh encryption of zero, c1 would be the client's c1 times the weights: a public linear function."""
    shape = ConvShape(2, 4, 4, 3)
    _, weight, _ = random_layer(shape, batch=1)
    client, server = layer(keys, public_key, shape, weight)
    frames, (to_server, to_client) = upload(client)
    for frame in list(frames):
        send_again(to_server, frame)
    answers = record(to_client)
    for _ in range(2):
        server.prepare(to_client)
    assert len(answers) == 4
    for once, again, size in ((answers[0], answers[2], 4096), (answers[1], answers[3], 48)):
        first, second = (np.frombuffer(frame, dtype=np.uint8)[-10 * size :] for frame in (once, again))
        assert not (first[: 8 * size].reshape(-1, 8) == second[: 8 * size].reshape(-1, 8)).all(axis=1).any()
        assert (first == second).mean() < 0.05


def test_online_the_server_sees_uniform_numbers_and_the_client_nothing(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = ConvShape(8, 40, 40, 1)
    client, server = layer(keys, public_key, shape, np.ones((1, 8, 1, 1)))
    seen: list[Any] = []
    for _ in range(2):
        prepare(client, server, 2)
        to_server, to_client = local_channels("client", "server", 5)
        up, down = record(to_server), record(to_client)
        client.run(to_server, np.zeros((2, 8, 40, 40), dtype=np.uint64))
        server.run(to_client, None, 2)
        assert len(up) == 1
        assert not down
        words = np.frombuffer(up[0], dtype=np.uint8)[-2 * 8 * 8 * 1600 :].view(np.uint64)
        assert_uniform_bytes(words)
        seen.extend(words.reshape(2, -1))
    for one, other in combinations(seen, 2):  # every image has a mask of its own, those of a batch too
        assert not (one == other).any()


@pytest.mark.timeout(40)
def test_layers_of_different_shapes_or_labels_end_both_sides(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = ConvShape(2, 4, 4, 3)
    images, weight, _ = random_layer(shape, batch=1)
    for label, other in (("layer", ConvShape(200, 8, 8, 3)), ("another", shape)):
        client = PrivateConvolutionClient(label, other, keys)
        _, server = layer(keys, public_key, shape, weight)
        first = np.zeros((1, other.channels, other.height, other.width), dtype=np.uint64)
        with pytest.raises(ProtocolError):
            run_locally(
                lambda party, client=client, first=first: client.run(party.channel, first),
                lambda party, server=server: server.run(party.channel, encode(images)),
            )


def test_wrong_images_or_weights_are_refused(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = ConvShape(2, 4, 4, 3)
    channel, _ = local_channels("a", "b", 0.1)
    with pytest.raises(ParameterError, match="expected weights"):
        PrivateConvolutionServer("layer", shape, public_key, np.zeros((3, 2, 1, 2)))
    client = PrivateConvolutionClient("layer", shape, keys)
    with pytest.raises(ParameterError, match="expected images"):
        client.run(channel, np.zeros((1, 3, 4, 4), dtype=np.uint64))
    with pytest.raises(PeerLostError):
        client.run(channel, np.zeros((1, 2, 4, 4), dtype=np.uint64))


def test_what_others_kept_is_not_loaded(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = ConvShape(2, 4, 4, 3)
    client, server = layer(keys, public_key, shape, np.zeros((3, 2, 1, 1)))
    mask = np.zeros((1, 3, 2, 16), dtype=np.uint64)
    r, own = np.zeros((1, 2, 4, 4), dtype=np.uint64), np.zeros((1, 3, 4, 4), dtype=np.uint64)
    for side, kept in ((server, [mask]), (client, [r, own])):
        side.load(1, kept)
        for wrong in (kept[:-1], [*kept, mask], [a[:0] for a in kept], [a.view(np.int64) for a in kept]):
            with pytest.raises(ParameterError, match="layer: expected uint64"):
                side.load(1, wrong)
    for prime in range(2):
        large = mask.copy()
        large[0, 2, prime, 15] = public_key.context.modulus.primes[prime]
        with pytest.raises(ParameterError, match="layer: expected residues below"):
            server.load(1, [large])
    assert [len(side._pool[1]) for side in (client, server)] == [1, 1]


@pytest.mark.parametrize("weight", [2.0**45, -(2.0**45), np.nan, np.inf])
def test_weights_out_of_range_are_refused(public_key: PublicKey, weight: float) -> None:
    with pytest.raises(ParameterError):
        PrivateConvolutionServer("layer", ConvShape(1, 2, 2, 1), public_key, np.full((1, 1, 1, 1), weight))


SECRETS = (seal.SecretKey, seal.Decryptor, seal.KeyGenerator, ClientKeys)


def holds(roots: tuple[Any, ...], array: Any) -> bool:
    """Whether an array that can be reached has these bytes in it."""
    needle = array.tobytes()
    return any(isinstance(value, np.ndarray) and needle in value.tobytes() for value in reachable(*roots))


def test_the_walk_finds_a_secret_key_where_there_is_one(keys: ClientKeys, public_key: PublicKey) -> None:
    _, server = layer(keys, public_key, ConvShape(1, 2, 2, 1), np.ones((1, 1, 1, 1)))
    server.hidden = {"deep": [lambda secret=keys: secret]}
    assert any(isinstance(found, SECRETS) for found in reachable(server))
    assert holds((server,), keys._secret)


def test_nothing_the_server_holds_reaches_the_secret_key(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = SHAPES["3x3, padded"]
    images, weight, bias = random_layer(shape, batch=1)
    client, server = layer(keys, public_key, shape, weight, bias)
    prepare(client, server)
    run(client, server, images)
    assert holds((server,), encode_weights(public_key.context, server.plan, weight))  # the weights are there
    assert not [value for value in reachable(server, public_key) if isinstance(value, SECRETS)]
    for polynomial in keys._secret:
        assert not holds((server, public_key), polynomial)


def test_nothing_the_client_holds_reaches_the_weights(keys: ClientKeys, public_key: PublicKey) -> None:
    shape = SHAPES["3x3, padded"]
    images, weight, bias = random_layer(shape, batch=1)
    client, server = layer(keys, public_key, shape, weight, bias)
    prepare(client, server)
    run(client, server, images)
    found = list(reachable(client))
    assert any(value is keys for value in found)
    assert holds((client,), keys._secret)
    assert not holds((client,), encode_weights(public_key.context, server.plan, weight)[0, 0])
    assert not holds((client,), quantise(weight, WEIGHT_BITS)[0, 0])
    assert not [value for value in found if isinstance(value, PrivateConvolutionServer | PublicKey)]
    assert not [value for value in found if isinstance(value, np.ndarray) and value.dtype == np.float64]
