"""Sessions whose peer disagrees, breaks the protocol, fails or falls silent: both sides end soon and say why."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hybridface as hf
from hybridface.models.model import Model
from parties.session.client import ClientSession
from parties.session.progress import Progress
from parties.session.terms import receive_plans
from protocols.channel import Channel
from protocols.encryption.ckks import CkksParameters
from protocols.errors import HybridFaceError, PeerLostError, ProtocolError
from protocols.matching.reveal import Reveal
from support.frames import Tampered
from support.sessions import GUARD_SECONDS, Ends, terms_of
from support.tiny_network import Chip, pair_of

# Peers that do not agree


@pytest.mark.parametrize(
    ("term", "changes"),
    [
        ("model", {"graph": hf.load_model("dlib-resnet29", weights=False).graph}),
        ("threshold", {"threshold": 0.5}),
        ("reveal", {"reveal": Reveal.BOTH}),
        ("encryption weight_bits", {"parameters": CkksParameters(weight_bits=17)}),
        ("encryption guard_bits", {"parameters": CkksParameters(guard_bits=7)}),
        ("encryption prime_bits", {"parameters": CkksParameters(prime_bits=(46, 45))}),
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
    [({"protocol version": 9}, "protocol version"), ({"fraction bits": None}, "fraction bits"), ({"new": 1}, "new")],
)
def test_terms_that_this_version_does_not_know(
    model: Model, start: Callable[..., Ends], change: dict[str, Any], term: str
) -> None:
    ends = start(terms_of(model), model.weights)
    ends.server.send_document("terms", {**terms_of(model).document(), **change})
    error = ends.server_error()
    assert isinstance(error, ProtocolError)
    assert str(error).startswith(f"the peers disagree on {term}: ")


@pytest.mark.parametrize("change", [{"fraction bits": 16.0}, {"encryption weight_bits": True}, {"threshold": "0.6"}])
def test_terms_of_another_type(model: Model, start: Callable[..., Ends], change: dict[str, Any]) -> None:
    """Python takes 16.0 for 16, and true for 1."""
    ends = start(terms_of(model), model.weights)
    ends.server.send_document("terms", {**terms_of(model).document(), **change})
    assert str(ends.server_error()).startswith(f"the peers disagree on {next(iter(change))}: ")


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
    {"operation": "prepare", "images": 1, "matching": True},
    {"operation": "prepare", "images": 1, "decisions": 1},
    {"operation": "prepare", "images": 1, "decisions": 1, "part": None},
    {"operation": "enroll", "images": 2, "template": "a"},
    {"operation": "enroll", "images": 1, "template": None},
    {"operation": "enroll", "images": 1, "template": "a" * 10_001},
    {"operation": "verify", "images": 1, "template": "a"},
    {"operation": "verify", "images": 1, "templates": "a"},
    {"operation": "verify", "images": 1, "templates": None},
    {"operation": "verify", "images": 1, "templates": ["\x1b[2J\nnobody"]},
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command)[:60])
def test_commands_that_the_server_refuses(model: Model, start: Callable[..., Ends], command: dict[str, Any]) -> None:
    ends = start(terms_of(model), model.weights)

    def attack(session: ClientSession) -> None:
        session.endpoint.command(command)
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
    with pytest.raises(ProtocolError, match=r"^expected the name of an enrolled template, got another name$"):
        ends.session.template_share("unknown")
    with pytest.raises(PeerLostError, match=r"^server ended: expected the name of an enrolled template"):
        session.verify(image, template)
    assert isinstance(ends.server_error(), ProtocolError)


def test_a_server_that_fails_in_a_layer_ends_the_client(model: Model, chips: Chip, start: Callable[..., Ends]) -> None:
    begun = time.monotonic()
    ends = start(terms_of(model), model.weights)
    layers: list[str] = []

    def fail_in_a_layer(session: ClientSession) -> None:
        network = ends.session.endpoint.network
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


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated data": lambda frame: frame[:-8],
    "truncated header": lambda frame: frame[:5],
    "header alone": lambda frame: frame[:16],
    "longer by a word": lambda frame: frame + bytes(8),
    "far too long": lambda frame: frame + bytes(1 << 24),
    "another type": lambda frame: frame[:3] + bytes([3]) + frame[4:],
    "unknown type": lambda frame: frame[:3] + bytes([9]) + frame[4:],
    "another tag": lambda frame: frame[:4] + bytes(4) + frame[8:],
    "another version": lambda frame: frame[:2] + bytes([9]) + frame[3:],
    "200 dimensions": lambda frame: frame[:8] + bytes([200]) + frame[9:],
    "another shape": lambda frame: frame[:16] + bytes(8) + frame[24:],
    "junk": lambda frame: bytes(range(256)),
}


@pytest.mark.slow
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
    key = np.zeros((2, 2, 4096), dtype=np.uint64)
    key[0, 0, 0] = word
    ends.server.send("public key", key)
    if word > 2**60:
        error = ends.server_error()
        assert isinstance(error, ProtocolError)
        assert str(error).startswith("the client's public key: expected residues below")
    else:  # residues in range are a key, if a useless one: only the client's privacy rests on it
        ends.server.receive_document("terms")
        receive_plans(ends.server, model.graph, 4096)
        assert ends.server.receive("ready", np.uint8, (1,)) == 1
