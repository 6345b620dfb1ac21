"""A network under encryption: it is the network in the clear, at the planned levels; bad bytes are refused."""

import dataclasses
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal

from hybridface.measure.cost.pure_he import RANDOM, load_subject
from parties.transport.queues import local_channels
from protocols.errors import ParameterError, ProtocolError
from protocols.pure_he import (
    Circuit,
    EncodedNetwork,
    EvaluationKeys,
    PatchNetShape,
    PatchNetWeights,
    PureHeClient,
    PureHeContext,
    PureHeEvaluator,
    PureHeKeys,
    PureHeParameters,
    PureHeServer,
    message_sizes,
)
from protocols.pure_he.answer import make_answer, open_answer
from protocols.pure_he.evaluation_keys import ciphertext_of_message
from support.frames import outcome, record
from support.reach import reachable

ONE_SQUARE = PureHeParameters(8192, levels=4, scale_bits=30, first_bits=42, special_bits=52)
THREE_SQUARES = PureHeParameters.for_squares(3)
BLUR = 2.0**-THREE_SQUARES.flood_bits
LARGEST_NOISE = 2.6e-8
"""Of a squared threshold, without the blur: measured, docs/PURE_HE.md."""

CASES = {
    "one square": (ONE_SQUARE, PatchNetShape(4, 20, (8,), 16), 1e-3),
    "widths that change": (THREE_SQUARES, PatchNetShape(4, 48, (16, 4, 8), 8), BLUR / 100),
    "two ciphertexts": (ONE_SQUARE, PatchNetShape(128, 40, (4,), 8), 1e-3),
}


@dataclass
class Setting:
    """Both parties' objects, and what they work on."""

    circuit: Circuit
    weights: PatchNetWeights
    keys: PureHeKeys
    messages: dict[str, Any]
    evaluator: PureHeEvaluator
    tolerance: float

    def embed(self, values: Any) -> seal.Ciphertext:
        context, scale = self.circuit.context, self.circuit.input_scale
        return self.evaluator.embed([ciphertext_of_message(context, m, scale) for m in self.keys.encrypt(values)])

    def decrypt(self, ciphertext: seal.Ciphertext) -> Any:
        plain = seal.Plaintext()
        self.keys._decryptor.decrypt(ciphertext, plain)
        return np.array(self.keys._encoder.decode_double(plain))


def key_messages(keys: PureHeKeys) -> dict[str, Any]:
    rotations = {step: keys.rotation_key(step) for step in keys.circuit.rotation_keys}
    return {"public": keys.public_key(), "relinearisation": keys.relinearisation_key(), "rotations": rotations}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def setting(request: pytest.FixtureRequest) -> Setting:
    parameters, shape, tolerance = CASES[request.param]
    circuit, weights = Circuit(PureHeContext(parameters), shape), PatchNetWeights.random(shape)
    keys = PureHeKeys(Circuit(PureHeContext(parameters), shape))  # the client has a context of its own
    messages = key_messages(keys)
    evaluator = PureHeEvaluator(EncodedNetwork(circuit, weights), EvaluationKeys(circuit, **messages))
    return Setting(circuit, weights, keys, messages, evaluator, tolerance)


@pytest.fixture(scope="module")
def small() -> Setting:
    circuit = Circuit(PureHeContext(ONE_SQUARE), PatchNetShape(2, 4, (4,), 4))
    weights, keys = PatchNetWeights.random(circuit.shape), PureHeKeys(circuit)
    messages = key_messages(keys)
    network = EncodedNetwork(circuit, weights)
    return Setting(
        circuit, weights, keys, messages, PureHeEvaluator(network, EvaluationKeys(circuit, **messages)), 1e-3
    )


def inputs(shape: PatchNetShape, count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (count, shape.patches, shape.inputs))


@pytest.mark.slow
def test_the_encrypted_network_is_the_network(setting: Setting) -> None:
    first, second = inputs(setting.circuit.shape, 2)
    a, b = setting.embed(first), setting.embed(second)
    expected = setting.weights.embed(np.stack([first, second]))
    repeats = setting.circuit.context.slots // setting.circuit.shape.dimension
    for ciphertext, embedding in zip((a, b), expected, strict=True):
        assert np.allclose(setting.decrypt(ciphertext), np.tile(embedding, repeats), atol=setting.tolerance)
    squares = setting.evaluator.squared_difference(a, b)
    answer = make_answer(setting.circuit, setting.evaluator.keys.public, squares, blur=setting.tolerance / 1000)
    distance = float(((expected[0] - expected[1]) ** 2).sum())
    assert open_answer(setting.keys, answer) == pytest.approx(distance, rel=setting.tolerance)


@pytest.mark.slow
def test_levels_and_scales_are_as_planned(setting: Setting) -> None:
    circuit = setting.circuit
    assert circuit.embedding_primes == 2
    a, b = (setting.embed(values) for values in inputs(circuit.shape, 2))
    assert (a.coeff_modulus_size(), a.scale, a.size()) == (2, circuit.embedding_scale, 2)
    squares = setting.evaluator.squared_difference(a, b)
    assert (squares.coeff_modulus_size(), squares.scale, squares.size()) == (1, circuit.answer_scale, 2)
    for stage in circuit.stages:
        assert stage.scale == pytest.approx(circuit.input_scale, rel=1e-12)
        diagonals = setting.evaluator.network.stages[circuit.stages.index(stage)].diagonals
        assert {tuple(d.parms_id()) for d in diagonals.values()} == {tuple(circuit.context.parms_id(stage.primes))}


@pytest.mark.slow
def test_the_blur_is_uniform_and_bounded(small: Setting) -> None:
    a, b = (small.embed(values) for values in inputs(small.circuit.shape, 2))
    squares = small.evaluator.squared_difference(a, b)
    public = small.evaluator.keys.public
    answers = [make_answer(small.circuit, public, squares, blur=1.0) for _ in range(60)]
    opened = np.array([open_answer(small.keys, answer) for answer in answers])
    exact = open_answer(small.keys, make_answer(small.circuit, public, squares, blur=1e-6))
    assert np.abs(opened - exact).max() < 1.01
    assert 0.4 < np.std(opened) < 0.75  # a uniform number's is 0.58
    assert len(np.unique([answer[1:] for answer in answers], axis=0)) == 60  # fresh randomness in all of c1


def test_an_answer_holds_one_coefficient_of_the_result(small: Setting) -> None:
    a, b = (small.embed(values) for values in inputs(small.circuit.shape, 2))
    answer = make_answer(small.circuit, small.evaluator.keys.public, small.evaluator.squared_difference(a, b), 1e-6)
    assert answer.shape == (small.circuit.context.degree + 1,)


@pytest.mark.slow
def test_the_server_never_reaches_the_secret_key_nor_the_client_a_weight(small: Setting) -> None:
    client, server = PureHeClient(small.keys), PureHeServer(small.evaluator.network, 1e-3)
    (distance, _), _ = converse(client, server, *inputs(small.circuit.shape, 2))
    assert distance > 0
    held = list(reachable(server))
    secrets = (seal.SecretKey, seal.Decryptor, seal.KeyGenerator, seal.Encryptor, PureHeKeys)
    assert not [value for value in held if isinstance(value, secrets) or value is small.keys._secret]
    assert [value for value in held if isinstance(value, EvaluationKeys)]
    held = list(reachable(client))
    assert small.keys in [value for value in held if isinstance(value, PureHeKeys)]
    assert not [value for value in held if isinstance(value, PatchNetWeights | EncodedNetwork | seal.Plaintext)]


def converse(
    client: PureHeClient, server: PureHeServer, first: Any, second: Any
) -> tuple[tuple[float, list[bytes]], Any]:
    """Enrol the first input and verify the second: the distance, what the client sent, and the server's embedding."""
    to_server, to_client = local_channels("client", "server")
    sent, result = record(to_server), []

    def serve() -> None:
        server.prepare(to_client)
        result.append(server.run(to_client, server.extract(to_client)))

    thread = threading.Thread(target=serve)
    thread.start()
    client.prepare(to_server)
    client.upload(to_server, first)
    distance = client.run(to_server, second)
    thread.join()
    return (distance, sent), result


@pytest.mark.slow
def test_messages_have_the_sizes_that_were_announced(small: Setting) -> None:
    server = PureHeServer(small.evaluator.network, 1e-4)
    first, second = inputs(small.circuit.shape, 2)
    (distance, sent), (embedding,) = converse(PureHeClient(small.keys), server, first, second)
    expected = small.weights.embed(np.stack([first, second]))
    assert distance == pytest.approx(((expected[0] - expected[1]) ** 2).sum(), rel=1e-3)
    assert np.allclose(small.decrypt(embedding)[:4], expected[1], atol=1e-3)
    sizes = list(message_sizes(small.circuit).values())
    assert [len(frame) for frame in sent] == [size + 24 for size in sizes] + [len(sent[-1])] * 2


@pytest.mark.slow
def test_equal_inputs_differ_on_the_wire_and_have_distance_zero(small: Setting) -> None:
    (values,) = inputs(small.circuit.shape, 1)
    (distance, sent), _ = converse(
        PureHeClient(small.keys), PureHeServer(small.evaluator.network, 1e-3), values, values
    )
    assert abs(distance) < 2e-3
    first, second = (np.frombuffer(frame[-4096:], dtype=np.uint8) for frame in sent[-2:])
    assert np.mean(first == second) < 0.2


def test_one_ciphertext_twice_is_refused(small: Setting) -> None:
    (values,) = inputs(small.circuit.shape, 1)
    embedding = small.embed(values)
    with pytest.raises(ProtocolError, match="SEAL refuses"):
        small.evaluator.squared_difference(embedding, embedding)


def corrupt(messages: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    copy = {**messages, "rotations": dict(messages["rotations"])}
    change(copy)
    return copy


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(public=m["public"][:-1]),
        lambda m: m.update(public=np.full_like(m["public"], 255)),
        lambda m: m.update(relinearisation=np.full_like(m["relinearisation"], 255)),
        lambda m: m.update(relinearisation=m["relinearisation"].view(np.int8)),
        lambda m: m["rotations"].update({2: m["rotations"][2][1:]}),
        lambda m: m["rotations"].pop(2),
        lambda m: m["rotations"].update({3: m["rotations"][2]}),
    ],
)
def test_hostile_keys_are_refused(small: Setting, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        EvaluationKeys(small.circuit, **corrupt(small.messages, change))


def test_every_message_has_a_seed_of_its_own(small: Setting) -> None:
    (values,) = inputs(small.circuit.shape, 1)
    sent = [*small.keys.encrypt(values), *small.keys.encrypt(values)]
    for messages in (small.messages, key_messages(small.keys)):
        sent += [messages["public"], messages["relinearisation"], *messages["rotations"].values()]
    assert len({message[:32].tobytes() for message in sent}) == len(sent) > 6


def test_hostile_inputs_and_answers_end_in_errors_and_nothing_else(small: Setting) -> None:
    context, scale = small.circuit.context, small.circuit.input_scale
    message = small.keys.encrypt(inputs(small.circuit.shape, 1)[0])[0]
    random = np.random.default_rng(2)
    for _ in range(20):
        hostile = message.copy()
        hostile[random.integers(0, len(hostile), 50)] = random.integers(0, 256, 50)
        ciphertext, error = outcome(ciphertext_of_message, context, hostile, scale)
        assert ciphertext or "residues below" in error
    for wrong in (message[:-1], message[None], np.full_like(message, 255)):
        assert "expected" in outcome(ciphertext_of_message, context, wrong, scale)[1]
    for answer in (np.zeros(5, dtype=np.uint64), np.full(context.degree + 1, 2**63, dtype=np.uint64)):
        assert "answer: expected" in outcome(open_answer, small.keys, answer)[1]
    answer = np.full(context.degree + 1, context.primes[0] - 1, dtype=np.uint64)
    assert np.isfinite(open_answer(small.keys, answer))
    answer[-1] += np.uint64(1)
    assert "answer: expected residues below" in outcome(open_answer, small.keys, answer)[1]
    garbage = random.integers(0, context.primes[0], context.degree + 1, dtype=np.uint64)
    assert np.isfinite(open_answer(small.keys, garbage))  # a valid encryption, of nothing


def test_keys_before_the_input(small: Setting) -> None:
    server = PureHeServer(small.evaluator.network, 1e-3)
    with pytest.raises(ProtocolError, match="keys before"):
        server.extract(local_channels("client", "server")[1])


def test_parameters_that_are_not_secure_or_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match="128 bits"):
        PureHeContext(PureHeParameters(8192))
    with pytest.raises(ParameterError, match="expected a degree among"):
        PureHeContext(PureHeParameters(5000))
    context = PureHeContext(ONE_SQUARE)
    with pytest.raises(ParameterError, match="expected 6 levels for 2 squares, got 4"):
        Circuit(context, PatchNetShape(2, 4, (4, 4), 4))
    with pytest.raises(ParameterError, match="fit 4096 slots"):
        Circuit(context, PatchNetShape(512, 4, (16,), 4))
    for wrong in ({"levels": 0}, {"scale_bits": 10}, {"first_bits": 40}, {"flood_bits": 0}, {"saved_bits": 5}):
        with pytest.raises(ParameterError, match="expected"):
            PureHeParameters(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("squares", [1, 2, 3, 4, 6, 9])
def test_parameters_for_every_depth_are_secure(squares: int) -> None:
    assert PureHeContext(PureHeParameters.for_squares(squares)).fresh == 2 * squares + 3


@pytest.mark.parametrize("squares", [1, 2, 3, 4, 6, 9])
def test_the_blur_hides_the_noise_and_changes_a_distance_little(squares: int) -> None:
    blur = 2.0 ** -PureHeParameters.for_squares(squares).flood_bits
    assert 500 * LARGEST_NOISE < blur <= 2.0**-16
    assert PureHeParameters().flood_bits == PureHeParameters.for_squares(squares).flood_bits


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("weights", ["", RANDOM], ids=["shipped", "random"])
def test_many_distances_are_right(weights: str) -> None:
    """Inputs between those that a benchmark takes, and noise on them; the figures of docs/PURE_HE.md (`pytest -s`)."""
    subject, count, random = load_subject(weights), 50 if weights else 30, np.random.default_rng(5)
    values = list(subject.inputs)
    while len(values) <= count:
        (a, b), share = values[:: random.integers(1, 6)][:2], random.uniform(0, 1)
        values.append(share * a + (1 - share) * b + random.normal(0, 0.05, a.shape))
    circuit = Circuit(PureHeContext(PureHeParameters.for_squares(subject.weights.shape.squares)), subject.weights.shape)
    keys = PureHeKeys(circuit)
    evaluation = EvaluationKeys(circuit, **key_messages(keys))
    evaluator = PureHeEvaluator(EncodedNetwork(circuit, subject.weights), evaluation)
    setting = Setting(circuit, subject.weights, keys, {}, evaluator, 0)
    template, clear, unit = setting.embed(values[0]), subject.weights.embed(np.stack(values)), subject.threshold**2
    distances = ((clear[1:] - clear[0]) ** 2).sum(axis=-1)
    found = []
    for value in values[1 : count + 1]:
        squares = evaluator.squared_difference(setting.embed(value), template)
        found.append(open_answer(keys, make_answer(circuit, evaluation.public, squares, blur=1e-9 * unit)))
    errors = np.abs(np.array(found) - distances[:count])
    sys.stdout.write(
        f"\n{weights or 'shipped'}, {count} distances, {distances.min() / unit:.2g} to {distances.max() / unit:.2g}"
        f" threshold^2: error in threshold^2 {np.median(errors) / unit:.1e}, at most {errors.max() / unit:.1e};"
        f" relative {np.median(errors / distances[:count]):.1e}, at most {(errors / distances[:count]).max():.1e}\n"
    )
    assert ((np.array(found) < unit) == (distances[:count] < unit)).all()
    assert (errors < 1e-7 * np.maximum(distances[:count], unit)).all()


def test_wrong_inputs_and_weights(small: Setting) -> None:
    for values in (np.zeros((2, 5)), np.full((2, 4), np.nan), np.full((2, 4), 1e9)):
        with pytest.raises(ParameterError, match="expected values of shape"):
            small.keys.encrypt(values)
    with pytest.raises(ParameterError, match="expected weights of"):
        EncodedNetwork(small.circuit, PatchNetWeights.random(PatchNetShape(2, 5, (4,), 4)))
    zero = PatchNetWeights(*small.weights.__dict__.values())
    object.__setattr__(zero, "join", np.zeros_like(zero.join))
    with pytest.raises(ParameterError, match="join: expected weights that are not all zero"):
        EncodedNetwork(small.circuit, zero)
    huge = PatchNetWeights(*small.weights.__dict__.values())
    object.__setattr__(huge, "constant", huge.constant * 1e30)
    with pytest.raises(ParameterError, match="SEAL cannot encode"):
        EncodedNetwork(small.circuit, huge)
    with pytest.raises(ParameterError, match="blur"):
        PureHeServer(small.evaluator.network, 0.0)


def test_weights() -> None:
    weights = PatchNetWeights.random(PatchNetShape(2, 4, (8, 4), 16))
    assert PatchNetWeights(weights.matrices, weights.biases, weights.join, weights.constant).shape == weights.shape
    by_hand = ((weights.matrices[0] @ np.ones((2, 4, 1)))[..., 0] + weights.biases[0]) ** 2
    by_hand = ((weights.matrices[1] @ by_hand[..., None])[..., 0] + weights.biases[1]) ** 2
    by_hand = sum(weights.join[:, p] @ by_hand[p] for p in range(2)) + weights.constant
    assert np.allclose(weights.embed(np.ones((2, 4))), by_hand)
    for wrong in (
        {"matrices": (weights.matrices[0], np.ones((2, 4, 7)))},
        {"matrices": weights.matrices[:1]},
        {"biases": (np.ones((2, 9)), weights.biases[1])},
        {"constant": np.full(16, np.inf)},
        {"constant": weights.constant.astype(np.float32)},
        {"join": weights.join[:, :, :3]},
    ):
        with pytest.raises(ParameterError, match="expected"):
            dataclasses.replace(weights, **wrong)
    with pytest.raises(ParameterError, match="powers of two"):
        PatchNetShape(3, 4, (4,), 4)
