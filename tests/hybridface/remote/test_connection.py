"""A client's connection to a server: what it asks, what it pins, and what it says when there is no connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hybridface.errors import ModelError, RunError
from hybridface.remote import connection
from hybridface.remote.connection import ServerConnection, reach
from hybridface.remote.known import add_server, forget_server, known_server, pin, unpin
from hybridface.service.address import Address
from hybridface.service.requests import Purpose, SessionRequest
from hybridface.version import __version__
from parties.gallery.errors import QueryRefusedError
from parties.gallery.rights import Right
from parties.transport.identity import create_identity, read_identity, read_key
from parties.transport.tls import Trust, server_context
from parties.transport.websocket import WebSocket
from support.certificates import leaf_of
from support.remote_server import NAME, RemoteServerThread, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RemoteServerThread]:
    with serving(tmp_path, "tiny-test", galleries={"staff": (Right.VERIFY,)}) as running:
        yield running


@contextmanager
def connected(server: RemoteServerThread) -> Iterator[tuple[ServerConnection, list[str]]]:
    warned: list[str] = []
    known = known_server(server.identity, NAME)
    with ServerConnection(known, server.identity, warned.append) as opened:
        yield opened, warned


def changed(server: RemoteServerThread) -> None:
    server.change("server.toml", "[models.tiny-test]", "[models.tiny-test]\nthreshold = 0.5")


def test_the_server_says_what_the_client_may_use(server: RemoteServerThread) -> None:
    with connected(server) as (opened, _):
        said = opened.describe()
        fingerprint, expires, encryption = opened.certificate()
    assert (said.server, said.client, said.version) == ("match.example.org", "bank", __version__)
    assert said.models == {"tiny-test": server.catalogue.models["tiny-test"].digest}
    assert said.galleries["staff"].may == (Right.VERIFY,)
    own = read_identity(server.folder)
    assert (fingerprint, expires) == (own.fingerprint, own.expires)
    assert encryption.startswith("TLSv1.3")


def test_the_first_use_of_a_network_pins_it(server: RemoteServerThread) -> None:
    with connected(server) as (opened, warned):
        model = opened.model("tiny-test")
        assert len(warned) == 1
        opened.model("tiny-test")
        assert len(warned) == 1
    assert (model.name, model.weights, model.threshold) == ("tiny-test", None, 0.6)
    digest = server.catalogue.models["tiny-test"].digest
    assert warned[0] == f"match: first use of its network tiny-test, pinned as {digest[:16]}"
    assert known_server(server.identity, NAME).pins == {"tiny-test": digest}
    with connected(server) as (opened, warned):
        opened.model("tiny-test")
        assert warned == []


def test_a_network_that_has_changed_is_refused(server: RemoteServerThread) -> None:
    with connected(server) as (opened, _):
        opened.model("tiny-test")
    before = known_server(server.identity, NAME).pins
    changed(server)
    with connected(server) as (opened, _):
        with pytest.raises(ModelError, match=r"network tiny-test that was pinned .* client trust match --model tiny"):
            opened.model("tiny-test")
    assert known_server(server.identity, NAME).pins == before
    unpin(server.identity, NAME, "tiny-test")
    with connected(server) as (opened, warned):
        assert opened.model("tiny-test").threshold == 0.5
        assert len(warned) == 1


def test_a_network_that_the_client_may_not_use(server: RemoteServerThread) -> None:
    with connected(server) as (opened, _), pytest.raises(ModelError, match="match refuses: no right to use 'other'"):
        opened.model("other")


def test_refusals_of_sessions(server: RemoteServerThread) -> None:
    request = SessionRequest(Purpose.PAIR, "tiny-test", server.catalogue.models["tiny-test"].digest)
    with connected(server) as (opened, _):
        with pytest.raises(QueryRefusedError, match="match: 'bank' has no right to use the network 'other'") as refusal:
            opened.open_session(replace(request, model="other"))
        assert refusal.value.retry_after_seconds is None
        with pytest.raises(QueryRefusedError, match="its network has changed; ask for it again"):
            opened.open_session(replace(request, digest="0" * 64))
        server.is_busy = True
        with pytest.raises(QueryRefusedError, match="match: it is busy with 4 sessions") as refusal:
            opened.open_session(request)
        assert refusal.value.retry_after_seconds == 7
        assert opened.describe().is_busy


def test_reaching_a_server(server: RemoteServerThread) -> None:
    def state() -> str:
        found = reach(server.identity, f"127.0.0.1:{server.address.port}", lambda text: None)
        assert found["address"] == str(server.address)
        assert found["identity"] == read_identity(server.folder).fingerprint
        assert found["round_trip_ms"] > 0
        return str(found["models"][0]["state"])

    assert state() == "new"
    pin(server.identity, NAME, "tiny-test", server.catalogue.models["tiny-test"].digest)
    assert state() == "pinned"
    changed(server)
    assert state() == "changed"


def why(identity: Path) -> str:
    """Return why a server cannot be reached."""
    with pytest.raises(RunError) as refusal:
        reach(identity, NAME, lambda text: None)
    return str(refusal.value)


def test_nobody_listens(tmp_path: Path) -> None:
    own = create_identity(tmp_path, "bank")
    with socket.socket() as reserved:  # bound, but it does not listen
        reserved.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", reserved.getsockname()[1])
        add_server(tmp_path, address, name=NAME, fingerprint=own.fingerprint)
        assert why(tmp_path) == (
            f"cannot reach match: {address}: Connection refused; check the address, and that it runs"
        )


def test_another_server_has_taken_the_address(server: RemoteServerThread) -> None:
    other = create_identity(server.folder / "other", "match.example.org")
    forget_server(server.identity, NAME)
    add_server(server.identity, server.address, name=NAME, fingerprint=other.fingerprint)
    assert "the peer's key is unknown here; compare its fingerprint" in why(server.identity)


def test_the_server_does_not_know_the_client(server: RemoteServerThread, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    create_identity(stranger, "bank")
    add_server(stranger, server.address, name=NAME, fingerprint=read_identity(server.folder).fingerprint)
    assert why(stranger).endswith(
        f"match at {server.address}: the peer does not know this side's key;"
        " send the peer's operator this side's fingerprint"
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "the peer does not speak TLS"), (None, "expected an answer within 0.2 s")],
    ids=["no TLS", "silence"],
)
def test_no_server_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, reason: str) -> None:
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 10.0 if answer else 0.2)
    own = create_identity(tmp_path, "bank")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        add_server(tmp_path, Address(*listener.getsockname()), name=NAME, fingerprint=own.fingerprint)
        done = threading.Event()

        def serve() -> None:
            plain, _ = listener.accept()
            with plain:
                if answer:
                    plain.recv(1 << 14)
                    plain.sendall(answer)
                done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            said = why(tmp_path)
        finally:
            done.set()
            thread.join(20)
    assert said.startswith(("cannot reach match", "cannot use match"))
    assert reason in said


def test_the_server_hangs_up(server: RemoteServerThread) -> None:
    server.hangs_up = True
    said = why(server.identity)
    assert said.startswith(f"match at {server.address}: expected a")
    assert said.endswith(("the peer has closed the connection", "the connection broke", "the connection was closed"))


def test_a_key_that_the_pinned_one_has_signed_is_refused(tmp_path: Path) -> None:
    """TLS accepts it, as the certificate of an authority; but the pinned key is the server's, and no other."""
    own, client = create_identity(tmp_path / "own", "match"), create_identity(tmp_path / "client", "bank")
    other = create_identity(tmp_path / "other", "other")
    pinned = read_key(own.folder)
    signed = leaf_of(read_key(other.folder), pinned, "match", own.fingerprint.removeprefix("ed25519-"))
    other.certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    context = server_context(read_identity(other.folder), Trust((client.fingerprint,)))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            plain.setblocking(False)
            websocket = WebSocket(context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False))
            while not websocket.ended:
                websocket.step()
            websocket.close()

        thread = threading.Thread(target=serve)
        thread.start()
        known = add_server(client.folder, Address(*listener.getsockname()), fingerprint=own.fingerprint)
        with pytest.raises(RunError, match="expected a certificate of a trusted key"):
            ServerConnection(known, client.folder, print)
        thread.join(20)
    assert not thread.is_alive()
