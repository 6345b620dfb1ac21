"""Features-only encryption: distances against plain numpy, what the server may hold, and two ranks."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tenseal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybridface.errors import RunError
from hybridface.measure.peers import PeerTask, features_only_party, make_task
from hybridface.measure.peers.features_only import features_only_session
from hybridface.measure.peers.features_only_party import FeaturesOnlyClient, FeaturesOnlyServer
from hybridface.models.model import load_model
from hybridface.photos import photo_path
from parties.local import PartyThread
from parties.transport.queues import local_channels
from protocols.encryption.seal_context import MOST_BITS
from protocols.errors import PeerLostError, ProtocolError
from protocols.link import WAN
from support.ranks import ranks_in_threads

pytestmark = pytest.mark.slow

PHOTOS = (photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg"))
CKKS = 1e-5
"""What the encryption leaves of a squared distance of about 1."""


@pytest.fixture(scope="module")
def task() -> PeerTask:
    return make_task(load_model("tiny-test"), PHOTOS)


class Pair:
    """Client and server in this process; the server compares pairs of embeddings until the client ends."""

    def __init__(self) -> None:
        self.channel, to_client = local_channels("client", "server", 60.0)
        self.server = FeaturesOnlyServer(to_client)
        self._thread = PartyThread("server", self._serve, (to_client,))
        self._thread.start()
        self.client = FeaturesOnlyClient(self.channel)
        self.client.send_keys()

    def _serve(self) -> None:
        self.server.receive_keys()
        with suppress(PeerLostError):  # the client has ended
            while True:
                self.server.receive_template()
                self.server.answer()

    def distance(self, template: NDArray[np.float64], probe: NDArray[np.float64]) -> float:
        self.client.send_embedding(template)
        self.client.send_embedding(probe)
        return self.client.receive_distance()

    def end(self) -> None:
        self.channel.send_error("done")
        self._thread.join(60.0)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    result = Pair()
    yield result
    result.end()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 100, 128, 512]), st.floats(1e-3, 10))
def test_distances_are_those_of_numpy(pair: Pair, seed: int, length: int, scale: float) -> None:
    template, probe = np.random.default_rng(seed).normal(0, scale / np.sqrt(length), (2, length))
    expected = float(((template - probe) ** 2).sum())
    assert pair.distance(template, probe) == pytest.approx(expected, rel=CKKS, abs=CKKS)


def test_equal_embeddings_have_no_distance(pair: Pair) -> None:
    embedding = np.linspace(-1, 1, 128)
    assert abs(pair.distance(embedding, embedding)) < CKKS


def test_the_server_holds_no_secret_key_and_cannot_decrypt(pair: Pair) -> None:
    assert not pair.server._context.has_secret_key()
    pair.distance(np.ones(4), np.zeros(4))
    with pytest.raises(ValueError, match="secret_key"):
        pair.server._template.decrypt()


def test_its_parameters_are_secure() -> None:
    assert sum(features_only_party._PRIME_BITS) <= MOST_BITS[features_only_party._DEGREE]


def keys(secret: bool) -> bytes:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    return bytes(context.serialize(save_secret_key=secret))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no keys", "^expected keys, got 7 bytes that are none$"),
        (keys(secret=True), "^expected keys without a secret key, got one with it$"),
    ],
    ids=["no keys", "a secret key"],
)
def test_the_server_checks_the_keys(data: bytes, message: str) -> None:
    to_server, to_client = local_channels("client", "server", 10.0)
    to_server.send("keys/size", np.array([len(data)], dtype=np.uint64))
    to_server.send("keys", np.frombuffer(data, dtype=np.uint8))
    with pytest.raises(ProtocolError, match=message):
        FeaturesOnlyServer(to_client).receive_keys()


@pytest.mark.parametrize("size", [0, 2**26 + 1])
def test_the_server_bounds_the_keys(size: int) -> None:
    to_server, to_client = local_channels("client", "server", 10.0)
    to_server.send("keys/size", np.array([size], dtype=np.uint64))
    with pytest.raises(ProtocolError, match=f"^keys from client: expected 1 to 67108864 bytes, got {size}$"):
        FeaturesOnlyServer(to_client).receive_keys()


def test_two_ranks_over_a_network(task: PeerTask) -> None:
    with ranks_in_threads():
        session = features_only_session(task, 2, WAN)
    expected = float(((task.features - task.template) ** 2).sum())
    assert task.error_of(np.array(session.features)) < 1e-5, "float32 in the clear"
    assert len(session.results) == 2
    for result in session.results:
        assert result["squared_distance"] == pytest.approx(expected, rel=1e-4)
        assert result["match"] == task.match
        online = result["cost"]["online"]
        assert online["elapsed_seconds"] > 2 * WAN.delay_seconds
        assert 3e5 < online["bytes_up"] < 4e5, "one fresh ciphertext: 2 polynomials of 8192 numbers modulo 3 primes"
        assert online["bytes_up"] > online["bytes_down"] > 0
        assert online["rounds"] == 2
        stages = [stage["stage"] for stage in result["cost"]["stages"]]
        assert stages == ["network in the clear", "upload", "distance"]
    assert session.setup["bytes_up"] > 1e7
    assert set(session.memory) == {"client", "server"}


def test_a_photo_without_a_face_ends_both_ranks(task: PeerTask, tmp_path: Any) -> None:
    missing = PeerTask(
        task.model, (tmp_path / "no.jpg", PHOTOS[1]), False, task.image, task.template, task.features, True
    )
    with ranks_in_threads(), pytest.raises(RunError, match="client: .*no.jpg"):
        features_only_session(missing, timeout=30)
