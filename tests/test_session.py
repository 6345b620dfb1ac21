"""Sessions: decisions, templates, who learns what, costs, and what happens when a peer is not what it should be."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
import torch
from helpers import assert_uniform_bytes, reachable, record
from numpy.typing import NDArray
from PIL import Image

import hybridface as hf
from hybridface.models import Model
from hybridface.photos import photo_path
from hybridface.session import LocalSession
from parties.client import ClientSession, Template
from parties.local import PartyThread, local_channels
from parties.progress import OnProgress, Progress
from parties.server import ServerSession
from parties.terms import Terms
from protocols.channel import Channel
from protocols.ckks import CkksParameters, ClientKeys, PublicKey
from protocols.correlations import Dealer, DealerClient, DealerServer
from protocols.emulator import Emulator
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError
from protocols.graph import LinearWeights
from protocols.linear import PrivateConvolutionServer
from protocols.matching import Reveal
from protocols.network import NetworkClient, NetworkServer
from protocols.ring import decode

Chip = NDArray[np.uint8]
GUARD_SECONDS = 30.0
"""How long a session may take to notice that a peer is lost; far below its own timeout of 300 s."""


@pytest.fixture(scope="module")
def model() -> Model:
    return hf.load_model("tiny-test")


@pytest.fixture(scope="module")
def chips() -> Chip:
    return np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def distances(model: Model, chips: Chip) -> NDArray[np.float64]:
    """Plaintext distances of all pairs of chips."""
    features = plaintext(model, chips)
    return np.asarray(np.linalg.norm(features[:, None] - features[None], axis=-1))


def plaintext(model: Model, chips: Any) -> NDArray[np.float64]:
    assert model.module is not None
    with torch.inference_mode():
        images = np.stack([model.normalise(chip) for chip in chips])
        return np.asarray(model.module(torch.from_numpy(images)).numpy())


def pair_of(model: Model, chips: Chip) -> NDArray[np.float64]:
    """Return the first two chips as a client's input."""
    return np.stack([model.normalise(chip) for chip in chips[:2]])


def pair_nearest_to(distances: NDArray[np.float64], goal: float) -> tuple[int, int]:
    return min(combinations(range(len(distances)), 2), key=lambda pair: abs(distances[pair] - goal))


@pytest.fixture(scope="module")
def same(distances: NDArray[np.float64]) -> tuple[int, int]:
    return pair_nearest_to(distances, 0.4)


@pytest.fixture(scope="module")
def different(distances: NDArray[np.float64]) -> tuple[int, int]:
    return pair_nearest_to(distances, 0.9)


@dataclasses.dataclass
class Ends:
    """The channels of a session by hand: the client's ends, and the server and dealer in threads."""

    server: Channel
    dealer: Channel
    at_server: Channel
    server_thread: PartyThread
    session: list[ServerSession]

    def run(self, terms: Terms, work: Callable[[ClientSession], Any], on_progress: OnProgress | None = None) -> None:
        """Open the client's session, do some work in it, and end it."""
        with ClientSession(self.server, self.dealer, terms, on_progress) as session:
            work(session)

    def server_error(self) -> BaseException | None:
        """Return why the server ended, once it has."""
        self.server_thread.join(GUARD_SECONDS)
        assert not self.server_thread.is_alive(), "the server hangs"
        return self.server_thread.error


@pytest.fixture
def start() -> Iterator[Callable[..., Ends]]:
    """Start a server and a dealer as threads; returns the client's ends of the channels."""
    started: list[tuple[PartyThread, tuple[Channel, ...]]] = []

    def begin(terms: Terms, weights: Any, timeout: float = 2 * GUARD_SECONDS) -> Ends:
        to_server, to_client = local_channels("client", "server", timeout)
        client_dealer, dealer_client = local_channels("client", "dealer", timeout)
        server_dealer, dealer_server = local_channels("server", "dealer", timeout)
        sessions: list[ServerSession] = []

        def serve() -> None:
            sessions.append(ServerSession(to_client, server_dealer, terms, weights))
            sessions[0].serve()

        server = PartyThread("server", serve, (to_client, server_dealer))
        dealer = PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server))
        for thread in (server, dealer):
            thread.start()
            started.append((thread, (to_server, client_dealer)))
        return Ends(to_server, client_dealer, to_client, server, sessions)

    yield begin
    for thread, channels in started:
        for channel in channels:
            channel.close()
        thread.join(GUARD_SECONDS)


def terms_of(model: Model, **changes: Any) -> Terms:
    return dataclasses.replace(Terms(model.graph, model.threshold), **changes)


# What a session decides


def test_decisions_are_the_plaintext_networks(
    model: Model, chips: Chip, distances: NDArray[np.float64], same: tuple[int, int], different: tuple[int, int]
) -> None:
    threshold = model.threshold
    off = np.where(np.abs(distances - threshold) > 0.002, distances, np.inf)
    off[np.triu_indices(len(chips))] = np.inf
    below, above = np.where(off < threshold, off, -np.inf), np.where(off > threshold, off, np.inf)
    nearest = [np.unravel_index(index, off.shape) for index in (below.argmax(), above.argmin())]
    pairs = [same, different, (0, 1), (2, 3), (4, 4), *((int(i), int(j)) for i, j in nearest)]
    expected = [bool(distances[pair] < threshold) for pair in pairs]
    assert 2 <= sum(expected) <= len(pairs) - 2, "the pairs are all on one side"
    with hf.local_session(model) as session:
        results = [session.verify(chips[i], chips[j]) for i, j in pairs]
        assert [result.match for result in results] == expected
        assert session.server.decisions == [None] * len(pairs)


def test_enrolled_templates(model: Model, chips: Chip, same: tuple[int, int], different: tuple[int, int]) -> None:
    with hf.local_session(model) as session:
        first = session.enroll(chips[same[0]], "first")
        second = session.enroll(chips[different[0]], "second")
        assert session.verify(chips[same[1]], first).match is True
        assert session.verify(chips[different[1]], second).match is False
        assert session.verify(chips[same[1]], first).match is True, "a template may be used again"
        unnamed = [session.enroll(chips[same[0]]) for _ in range(2)]
        assert unnamed[0].name != unnamed[1].name
        with pytest.raises(AttributeError):
            first.share = second.share  # type: ignore[misc]
    with hf.local_session(model) as session:
        session.enroll(chips[0], "first")
        with pytest.raises(PeerLostError, match="expected a new template's name, got 'first' again"):
            session.enroll(chips[1], "first")
        with pytest.raises(ProtocolError, match="this one has failed"):
            session.verify(chips[0], chips[1])
    assert repr(first) == "Template(name='first')", "a share must not end in a log"


def test_paths_and_arrays(model: Model, chips: Chip, same: tuple[int, int], tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in same]
    for path, i in zip(paths, same, strict=True):
        Image.fromarray(chips[i]).save(path)
    with hf.local_session(model) as session:
        assert session.verify(paths[0], chips[same[1]], aligned=True).match is True
        with pytest.raises(hf.ImageError, match=r"expected one face, found 0"):
            session.verify(*paths)
        with pytest.raises(hf.ModelError, match=r"expected a chip \(16, 16, 3\)"):
            session.verify(chips[0], chips[1][:3])
        assert session.verify(str(paths[0]), paths[1], aligned=True).match is True, "a refused photo ends no session"


@pytest.mark.parametrize("reveal", Reveal)
def test_the_decision_goes_only_to_whom_it_is_revealed(
    model: Model, chips: Chip, same: tuple[int, int], different: tuple[int, int], reveal: Reveal
) -> None:
    pairs = {True: same, False: different}
    with hf.local_session(model, reveal=reveal.value) as session:
        at_client = [session.verify(chips[i], chips[j]).match for i, j in pairs.values()]
        at_server = session.server.decisions
    assert at_client == (list(pairs) if reveal is not Reveal.SERVER else [None, None])
    assert at_server == (list(pairs) if reveal is not Reveal.CLIENT else [None, None])


def test_progress_names_every_layer(model: Model, chips: Chip) -> None:
    steps: list[Progress] = []
    with hf.local_session(model, on_progress=steps.append) as session:
        session.verify(chips[0], chips[1])
    layers = [step for step in steps if step.phase == "online"]
    assert [step.stage for step in layers] == [node.name for node in model.graph.nodes]
    assert [step.index for step in layers] == list(range(len(layers)))
    assert [step.phase for step in steps[:3]] == ["start", "offline", "offline"]


def test_a_session_that_is_not_open_says_so(model: Model, chips: Chip) -> None:
    session = hf.local_session(model)
    for use in (lambda: session.verify(chips[0], chips[1]), lambda: session.server, lambda: session.prepare()):
        with pytest.raises(hf.ModelError, match=r"^expected an open session"):
            use()
    with pytest.raises(hf.ModelError, match=r"^expected a model with weights, got tiny-test without$"):
        hf.local_session(hf.load_model("tiny-test", weights=False))


def test_images_of_the_wrong_shape_send_nothing(model: Model) -> None:
    with hf.local_session(model) as session:
        before = session.client._channel.statistics.snapshot()
        with pytest.raises(ParameterError, match=r"^expected images of shape \(2, 3, 16, 16\), got \(1, 3, 16, 16\)$"):
            session.client.verify_pair(np.zeros((1, 3, 16, 16)))
        assert session.client._channel.statistics == before


def test_a_pause_between_verifications_ends_no_session(model: Model, chips: Chip) -> None:
    timeout = 1.0
    with hf.local_session(model, timeout=timeout) as session:
        time.sleep(1.5 * timeout)
        assert session.verify(chips[4], chips[4]).match is True


def test_preparations_are_bounded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.server._MAX_PREPARED", 2)

    def prepare_for_ever() -> None:
        with hf.local_session(model, timeout=GUARD_SECONDS) as session:
            for _ in range(3):
                session.prepare(1)

    with pytest.raises(PeerLostError, match=r"^server ended: expected at most 2 prepared runs"):
        prepare_for_ever()


def test_preparing_an_impossible_number_of_images_sends_nothing(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        with pytest.raises(ParameterError):
            session.prepare(3)
        assert session.verify(chips[0], chips[1]).match is not None


@pytest.mark.parametrize("threshold", [0.0, -1.0, 2.0**14, float("nan"), float("inf")])
def test_thresholds_out_of_range(model: Model, threshold: float) -> None:
    with pytest.raises(ParameterError, match=r"^expected a threshold above 0"):
        terms_of(model, threshold=threshold)


# What it costs


def test_preparation_ahead_leaves_nothing_to_the_dealer_online(model: Model, chips: Chip) -> None:
    with hf.local_session(model, timeout=GUARD_SECONDS) as session:
        session.prepare(2)
        dealers = [session.client._dealer.statistics, session.server._source._channel.statistics]
        before = [statistics.snapshot() for statistics in dealers]
        cost = session.verify(chips[0], chips[1]).cost
        assert dealers == before, "the verification asked the dealer for more"
        assert cost.online.dealer_bytes == 0
        assert cost.offline.dealer_bytes > 0
        pools = (session.client._source._pool, session.server._source._pool)
        assert not any(queue for pool in pools for queue in pool.values()), "prepared correlations are left over"
        session.verify(chips[0], chips[1])  # prepares for itself
        assert dealers != before


def test_cost_report(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        cost = session.verify(chips[0], chips[1]).cost
        again = session.verify(chips[0], chips[1]).cost
        client, server = session.client._channel.statistics, session.server._channel.statistics
        assert (client.bytes_sent, client.bytes_received) == (server.bytes_received, server.bytes_sent)
        session.prepare(2)  # offline, the client sends a layer ahead, so the two sides see other flights
        before = client.rounds, server.rounds
        session.verify(chips[0], chips[1])
        assert client.rounds - before[0] == server.rounds - before[1] > again.online.rounds
    online = [stage for stage in cost.stages if stage.phase == "online"]
    assert [stage.stage for stage in online] == [n.name for n in model.graph.nodes] + ["distance and threshold"]
    assert 20 < cost.online.rounds < 100
    assert cost.online.bytes_up > cost.online.bytes_down > 10_000
    assert min(cost.offline.bytes_up, cost.offline.bytes_down) > 100_000
    assert sum(s.bytes_up for s in (cost.offline, cost.online, again.online)) < client.bytes_sent
    assert again.online.bytes_up == cost.online.bytes_up
    assert again.online.rounds == cost.online.rounds
    by_name = {stage.stage: stage for stage in online}
    assert by_name["flatten"].rounds == by_name["flatten"].bytes_up == 0
    assert by_name["conv"].bytes_up > 0
    for stage in online:
        assert 0 <= stage.client_seconds <= stage.elapsed_seconds
    assert cost.online.server_seconds > 0
    assert next(s.stage for s in cost.stages if s.phase == "offline") == "keys and weights"
    assert "keys and weights" not in [s.stage for s in again.stages]


def test_preparing_twice_ahead_counts_both(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        once = session.verify(chips[0], chips[1]).cost
        session.prepare(2)
        session.prepare(2)
        cost = session.verify(chips[0], chips[1]).cost
    upload = next(stage.bytes_up for stage in once.stages if stage.phase == "offline" and stage.stage == "conv")
    twice = next(stage.bytes_up for stage in cost.stages if stage.phase == "offline" and stage.stage == "conv")
    assert twice == 2 * upload > 0


# Who holds what


def weight_arrays(model: Model) -> set[bytes]:
    return {np.asarray(w.weight).tobytes() for w in (model.weights or {}).values()}


def test_the_client_holds_no_weight_and_the_server_no_secret_key(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.verify(chips[1], template)
        client, server = list(reachable(session.client)), list(reachable(session.server))
    weights = weight_arrays(model)
    held = {value.tobytes() for value in client if isinstance(value, np.ndarray)}
    assert not held & weights
    assert not [v for v in client if isinstance(v, LinearWeights | NetworkServer | PrivateConvolutionServer)]
    assert not [v for v in client if isinstance(v, ServerSession | DealerServer | Dealer | LocalSession | Model)]
    secret = ClientKeys | seal.SecretKey | seal.Decryptor | seal.KeyGenerator
    assert not [value for value in server if isinstance(value, secret)]
    assert not [v for v in server if isinstance(v, ClientSession | NetworkClient | DealerClient | Template | Dealer)]
    assert not [v for v in server if v is template.share]
    # that the walk sees what is there:
    assert [value for value in client if isinstance(value, ClientKeys)]
    assert [value for value in server if isinstance(value, PublicKey)]
    assert [value for value in server if isinstance(value, NetworkServer)]


def test_template_shares_are_uniform_and_add_up(model: Model, chips: Chip) -> None:
    times = 16
    clients, servers = [], []
    with hf.local_session(model) as session:
        for i in range(times):
            clients.append(session.enroll(chips[0], f"t{i}").share)
            servers.append(session.server.template_share(f"t{i}"))
    first, second = np.concatenate(clients), np.concatenate(servers)
    assert first.shape == second.shape == (times, 8)
    assert_uniform_bytes(first)
    assert_uniform_bytes(second)
    assert len(np.unique(first)) == len(np.unique(second)) == first.size, "a share came twice"
    emulated = Emulator(model.graph, model.weights or {}).run(model.normalise(chips[0])[None])
    assert np.abs((first + second).view(np.int64) - emulated).max() <= 8, "in last bits"
    assert np.abs(decode(first + second) - plaintext(model, chips[:1])).max() < 1e-3


def test_equal_inputs_send_different_bytes(model: Model, chips: Chip, start: Callable[..., Ends]) -> None:
    small = 64  # commands, sizes and single numbers may well be equal
    frames: list[bytes] = []
    for _ in range(2):
        ends = start(terms_of(model), model.weights)
        sent = [record(ends.server), record(ends.at_server)]
        with ClientSession(ends.server, ends.dealer, terms_of(model)) as session:
            for _ in range(2):
                session.verify_pair(pair_of(model, chips))
        assert ends.server_error() is None
        frames += [frame for frame in sent[0] + sent[1] if len(frame) > small and b'{"' not in frame]
    assert len(frames) > 4 * 40
    assert len(set(frames)) == len(frames)


# Peers that do not agree


@pytest.mark.parametrize(
    ("term", "changes"),
    [
        ("model", {"graph": hf.load_model("dlib-resnet29", weights=False).graph}),
        ("threshold", {"threshold": 0.5}),
        ("reveal", {"reveal": Reveal.BOTH}),
        ("encryption weight_bits", {"parameters": CkksParameters(weight_bits=17)}),
        ("encryption guard_bits", {"parameters": CkksParameters(guard_bits=7)}),
        ("encryption prime_bits", {"parameters": CkksParameters(prime_bits=(46, 46, 17))}),
    ],
)
def test_peers_with_different_terms_both_say_which(
    model: Model, start: Callable[..., Ends], term: str, changes: dict[str, Any]
) -> None:
    begun = time.monotonic()
    ends = start(terms_of(model), model.weights)
    with pytest.raises(ProtocolError, match=f"^the peers disagree on {term}: expected .*, the server has "):
        ClientSession(ends.server, ends.dealer, terms_of(model, **changes))
    error = ends.server_error()
    assert isinstance(error, ProtocolError)
    assert str(error).startswith(f"the peers disagree on {term}: expected ")
    assert time.monotonic() - begun < GUARD_SECONDS


@pytest.mark.parametrize(
    ("change", "term"),
    [({"protocol version": 2}, "protocol version"), ({"fraction bits": None}, "fraction bits"), ({"new": 1}, "new")],
)
def test_terms_that_this_version_does_not_know(
    model: Model, start: Callable[..., Ends], change: dict[str, Any], term: str
) -> None:
    ends = start(terms_of(model), model.weights)
    ends.server.send_document("terms", {**terms_of(model).document(), **change})
    error = ends.server_error()
    assert isinstance(error, ProtocolError)
    assert str(error).startswith(f"the peers disagree on {term}: ")


@pytest.mark.parametrize("change", [{"a\nb\x1b[2J" + 5000 * "x": 1}, {"reveal": "a\nb\x1b[2J"}])
def test_terms_of_a_hostile_peer_stay_on_one_short_line(
    model: Model, start: Callable[..., Ends], change: dict[str, Any]
) -> None:
    ends = start(terms_of(model), model.weights)
    ends.server.send_document("terms", {**terms_of(model).document(), **change})
    message = str(ends.server_error())
    assert "disagree" in message
    assert message.isprintable()
    assert len(message) < 500


# Peers that break the protocol

COMMANDS: list[dict[str, Any]] = [
    {},
    {"operation": "open"},
    {"operation": ["end"]},
    {"operation": "prepare"},
    {"operation": "prepare", "images": 3, "matching": True},
    {"operation": "prepare", "images": -1, "matching": True},
    {"operation": "prepare", "images": 10**9, "matching": True},
    {"operation": "prepare", "images": "1", "matching": True},
    {"operation": "prepare", "images": 1, "matching": 1},
    {"operation": "enroll", "images": 2, "template": "a"},
    {"operation": "enroll", "images": 1, "template": None},
    {"operation": "enroll", "images": 1, "template": "a" * 10_001},
    {"operation": "verify", "images": 2, "template": "a"},
    {"operation": "verify", "images": 1, "template": None},
    {"operation": "verify", "images": 3, "template": None},
    {"operation": "verify", "images": 1, "template": "\x1b[2J\nnobody"},
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command)[:60])
def test_commands_that_the_server_refuses(model: Model, start: Callable[..., Ends], command: dict[str, Any]) -> None:
    ends = start(terms_of(model), model.weights)

    def attack(session: ClientSession) -> None:
        session._command(command)
        ends.server.receive("cost", np.uint8, (1,))

    with pytest.raises(PeerLostError, match=r"^server ended: expected "):
        ends.run(terms_of(model), attack)
    error = ends.server_error()
    assert isinstance(error, ProtocolError)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b"[1, 2]",
        b"\xff\xfe",
        b'"end"',
        b"[" * 100_000,
    ],
    ids=["open", "list", "not-utf8", "string", "deep"],
)
def test_documents_that_are_no_json_object(model: Model, start: Callable[..., Ends], document: bytes) -> None:
    ends = start(terms_of(model), model.weights)
    payload = np.frombuffer(document, dtype=np.uint8)
    ends.server.send("terms/size", np.array([payload.size], dtype=np.uint64))
    ends.server.send("terms", payload)
    error = ends.server_error()
    assert isinstance(error, ProtocolError)
    assert str(error).isprintable()


def test_the_dealer_refuses_malformed_requests(model: Model, start: Callable[..., Ends]) -> None:
    ends = start(terms_of(model), model.weights)

    def attack(session: ClientSession) -> None:
        ends.dealer.send_document("requests", {"requests": [{"kind": "everything"}]})
        ends.dealer.receive("x", np.uint8, (1,))

    with pytest.raises(PeerLostError, match=r"^dealer ended: "):
        ends.run(terms_of(model), attack)
    assert isinstance(ends.server_error(), PeerLostError)


def test_unknown_templates(model: Model, chips: Chip, start: Callable[..., Ends]) -> None:
    ends = start(terms_of(model), model.weights)
    session = ClientSession(ends.server, ends.dealer, terms_of(model))
    image = model.normalise(chips[0])[None]
    template = dataclasses.replace(session.enroll("known", image), name="unknown")
    with pytest.raises(ProtocolError, match=r"^expected the name of an enrolled template, got 'unknown'$"):
        ends.session[0].template_share("unknown")
    with pytest.raises(PeerLostError, match=r"^server ended: expected the name of an enrolled template, got 'unknown'"):
        session.verify(image, template)
    assert isinstance(ends.server_error(), ProtocolError)


def test_a_server_that_fails_in_a_layer_ends_the_client(model: Model, chips: Chip, start: Callable[..., Ends]) -> None:
    begun = time.monotonic()
    ends = start(terms_of(model), model.weights)
    layers: list[str] = []

    def fail_in_a_layer(session: ClientSession) -> None:
        network = ends.session[0]._network
        linear = network._linear

        def fail(channel: Channel, name: str, value: Any, batch: int) -> Any:
            layers.append(name)
            if name == "block_conv2":
                raise OSError("/srv/weights: a bad disk")
            return linear(channel, name, value, batch)

        network._linear = fail  # type: ignore[method-assign]
        session.verify_pair(pair_of(model, chips))

    with pytest.raises(PeerLostError, match=r"^server ended: it could not go on; its own output says why$"):
        ends.run(terms_of(model), fail_in_a_layer)
    assert layers == ["conv", "block_conv1", "block_conv2"]
    assert isinstance(ends.server_error(), OSError), "the server's own thread keeps the cause"
    assert time.monotonic() - begun < GUARD_SECONDS


def test_a_client_that_fails_tells_its_peers_that_and_no_more(
    model: Model, chips: Chip, start: Callable[..., Ends]
) -> None:
    def fail(progress: Progress) -> None:
        if progress.stage == "block_relu1":
            raise RuntimeError("something private")

    ends = start(terms_of(model), model.weights)
    with pytest.raises(RuntimeError, match="private"):
        ends.run(terms_of(model), lambda session: session.verify_pair(pair_of(model, chips)), fail)
    error = ends.server_error()
    assert isinstance(error, PeerLostError)
    assert str(error) == "client ended: it could not go on; its own output says why"


class Tampered:
    """A transport that changes one message, once armed."""

    def __init__(self, channel: Channel, change: Callable[[bytes], bytes]) -> None:
        self._transport, self._change = channel.transport, change
        self.armed = False
        channel.transport = self

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self._transport.send(self._changed(payload), timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        return self._transport.exchange(self._changed(payload), max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _changed(self, payload: bytes) -> bytes:
        if not self.armed:
            return payload
        self.armed = False
        return self._change(payload)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated data": lambda frame: frame[:-8],
    "truncated header": lambda frame: frame[:5],
    "header alone": lambda frame: frame[:12],
    "longer by a word": lambda frame: frame + bytes(8),
    "far too long": lambda frame: frame + bytes(1 << 24),
    "another type": lambda frame: frame[:3] + bytes([3]) + frame[4:],
    "unknown type": lambda frame: frame[:3] + bytes([9]) + frame[4:],
    "another tag": lambda frame: frame[:4] + bytes(4) + frame[8:],
    "another version": lambda frame: frame[:2] + bytes([2]) + frame[3:],
    "200 dimensions": lambda frame: frame[:8] + bytes([200]) + frame[9:],
    "another shape": lambda frame: frame[:12] + bytes(4) + frame[16:],
    "junk": lambda frame: bytes(range(256)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("tampered", ["client", "server"])
def test_a_changed_message_ends_both_sides(
    model: Model, chips: Chip, start: Callable[..., Ends], name: str, tampered: str
) -> None:
    begun = time.monotonic()
    ends = start(terms_of(model), model.weights)
    transport = Tampered(ends.server if tampered == "client" else ends.at_server, CHANGES[name])

    def arm(progress: Progress) -> None:
        if progress.stage == "block_relu1":
            transport.armed = True

    with pytest.raises((ProtocolError, PeerLostError)) as caught:
        ends.run(terms_of(model), lambda session: session.verify_pair(pair_of(model, chips)), arm)
    errors = {"client": caught.value, "server": ends.server_error()}
    receiver = "server" if tampered == "client" else "client"
    assert isinstance(errors[receiver], ProtocolError)
    assert isinstance(errors[tampered], PeerLostError)
    assert str(errors[receiver])[:200] in str(errors[tampered]), "the peer's reason is not passed on"
    assert time.monotonic() - begun < GUARD_SECONDS


def test_a_server_that_falls_silent_is_given_up(model: Model, chips: Chip, start: Callable[..., Ends]) -> None:
    ends = start(terms_of(model), model.weights, timeout=2.0)

    def silence(session: ClientSession) -> None:
        transport = ends.at_server.transport
        transport.send = lambda *arguments: None  # type: ignore[method-assign]
        transport.exchange = lambda payload, size: transport.receive(size)  # type: ignore[method-assign]
        session.verify_pair(pair_of(model, chips))

    with pytest.raises(PeerLostError, match=r"^expected a message from server within 2 s, got none$"):
        ends.run(terms_of(model), silence)
    assert isinstance(ends.server_error(), HybridFaceError)


@pytest.mark.parametrize("word", [2**64 - 1, 2])
def test_residues_of_a_hostile_public_key(model: Model, start: Callable[..., Ends], word: int) -> None:
    ends = start(terms_of(model), model.weights)
    ends.server.send_document("terms", terms_of(model).document())
    key = np.zeros((2, 3, 4096), dtype=np.uint64)
    key[0, 0, 0] = word
    ends.server.send("public key", key)
    if word > 2**60:
        error = ends.server_error()
        assert isinstance(error, ProtocolError)
        assert str(error).startswith("the client's public key is not valid")
    else:  # residues in range are a key, if a useless one: only the client's privacy rests on it
        ends.server.receive_document("terms")
        assert ends.server.receive("ready", np.uint8, (1,)) == 1


# The real network

PHOTOS = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")
SAME_PEOPLE = {("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")}


@pytest.fixture(scope="module")
def real() -> Model:
    return hf.load_model("dlib-resnet29")


@pytest.fixture(scope="module")
def portraits(real: Model) -> dict[str, Chip]:
    return {name: hf.face_chip(photo_path(f"{name}.jpg"), real.chip_size) for name in PHOTOS}


@pytest.fixture(scope="module")
def embeddings(real: Model, portraits: dict[str, Chip]) -> dict[str, tuple[Any, Any]]:
    """Every portrait's embedding, in float64 and by the emulator (integers)."""
    plain = plaintext(real, portraits.values())
    emulated = Emulator(real.graph, real.weights or {}).run(
        np.stack([real.normalise(chip) for chip in portraits.values()])
    )
    return {name: (plain[i], emulated[i]) for i, name in enumerate(portraits)}


def test_the_emulator_decides_as_the_network_does(real: Model, embeddings: dict[str, tuple[Any, Any]]) -> None:
    for first, second in combinations(PHOTOS, 2):
        plain = np.linalg.norm(embeddings[first][0] - embeddings[second][0])
        emulated = np.linalg.norm(decode((embeddings[first][1] - embeddings[second][1]).view(np.uint64)))
        expected = (first, second) in SAME_PEOPLE
        assert (plain < real.threshold, emulated < real.threshold) == (expected, expected), (first, second)


def test_the_real_network_in_private(
    real: Model, portraits: dict[str, Chip], embeddings: dict[str, tuple[Any, Any]]
) -> None:
    with hf.local_session(real) as session:
        template = session.enroll(portraits["person_a_1"], "a")
        total = template.share + session.server.template_share("a")
        plain, emulated = embeddings["person_a_1"]
        assert np.abs(decode(total)[0] - plain).max() < 2e-3
        assert np.abs(total.view(np.int64)[0] - emulated).max() <= 8
        assert session.verify(portraits["person_a_2"], template).match is True
        last = session.verify(portraits["impostor_1"], template)
    assert last.match is False
    assert last.cost.online.dealer_bytes == 0


def test_a_photos_name_does_not_reach_the_server(model: Model, tmp_path: Path) -> None:
    session = LocalSession(model)
    with pytest.raises(hf.ImageError, match="Jane Doe"), session:
        session.verify(tmp_path / "Jane Doe.jpg", tmp_path / "John Doe.jpg", aligned=True)
    errors = [str(thread.error) for thread in session._threads]
    assert errors
    assert not any("Doe" in error for error in errors)
