"""Real TLS connections: who is let in, who is not, and what each side then reads about it."""

import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from parties.transport.certificates import issue_leaf
from parties.transport.identity import Identity, create_identity, read_key, renew_certificate
from parties.transport.tls import Trust, client_context, peer_name, server_context, tls_reason
from protocols.errors import ParameterError, ProtocolError
from support.certificates import DAY, WAIT_SECONDS, Authority, Met, connected, dated, leaf_of, meet


@pytest.fixture
def client(tmp_path: Path) -> Identity:
    return create_identity(tmp_path / "client", "door")


@pytest.fixture
def server(tmp_path: Path) -> Identity:
    return create_identity(tmp_path / "server", "match.example.org")


def pins(*peers: Identity) -> Trust:
    return Trust(tuple(peer.fingerprint for peer in peers))


def both(client: Identity, server: Identity) -> tuple[Trust, Trust]:
    return pins(server), pins(client)


def test_pinned_peers_know_each_other_by_their_keys(client: Identity, server: Identity) -> None:
    names = Met(server.fingerprint, client.fingerprint)
    assert connected(client, server, both(client, server)) == names
    renewed = renew_certificate(client.folder), renew_certificate(server.folder)
    assert connected(*renewed, both(client, server)) == names


def test_one_of_many_clients_is_known(client: Identity, server: Identity, tmp_path: Path) -> None:
    others = [create_identity(tmp_path / str(number), "door") for number in range(5)]
    met = connected(client, server, (pins(server), pins(*others, client)))
    assert met == Met(server.fingerprint, client.fingerprint)


def test_an_unknown_client_is_refused(client: Identity, server: Identity, tmp_path: Path) -> None:
    for trust in (pins(create_identity(tmp_path / "other", "door")), Trust()):
        met = connected(client, server, (pins(server), trust))
        assert "the peer's key is unknown here" in met.server
        assert "the peer does not know this side's key" in met.client


def test_an_unknown_server_is_refused(client: Identity, server: Identity, tmp_path: Path) -> None:
    other = create_identity(tmp_path / "other", "match.example.org")
    met = connected(client, server, (pins(other), pins(client)))
    assert "the peer's key is unknown here" in met.client
    assert "the peer does not know this side's key" in met.server


def test_certificates_out_of_date_are_refused(client: Identity, server: Identity) -> None:
    trusts = both(client, server)
    met = connected(dated(client, -2 * DAY, -DAY), server, trusts)
    assert "the peer's certificate has expired" in met.server
    assert "this side's certificate has expired; renew it" in met.client
    met = connected(dated(client, DAY, 2 * DAY), server, trusts)
    assert "not valid yet; check the clocks" in met.server
    assert "check the clocks" in met.client
    dated(client, -DAY, DAY)
    assert "has expired" in connected(client, dated(server, -2 * DAY, -DAY), trusts).client
    assert "not valid yet" in connected(client, dated(server, DAY, 2 * DAY), trusts).client


def test_a_certificate_that_another_key_has_signed_is_refused(client: Identity, server: Identity) -> None:
    trusts = both(client, server)
    digits, own = client.fingerprint.removeprefix("ed25519-"), read_key(client.folder)
    forged = leaf_of(own, Ed25519PrivateKey.generate(), client.name, digits)
    client.certificate.write_bytes(forged.public_bytes(Encoding.PEM))
    met = connected(client, server, trusts)
    assert "signed by another key than the trusted one" in met.server
    assert "the peer refuses this side's certificate" in met.client


def test_a_key_that_a_pinned_client_has_signed_has_no_rights(
    client: Identity, server: Identity, tmp_path: Path
) -> None:
    """TLS accepts the chain; the name is by the key, and with a CA beside it the certificate is not the CA's."""
    authority = Authority(tmp_path)
    other = create_identity(tmp_path / "other", "gate")
    digits = client.fingerprint.removeprefix("ed25519-")
    leaf = leaf_of(read_key(other.folder), read_key(client.folder), "gate", digits)
    other.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    der = leaf.public_bytes(Encoding.DER)
    for trust in (pins(client), replace(pins(client), ca=authority.path)):
        with pytest.raises(ProtocolError, match="of a trusted key, got one of another key"):
            peer_name(der, trust)
        with pytest.raises(ProtocolError, match="of a trusted key, got one of another key"):
            connected(other, server, (pins(server), trust))


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("BAD_SIGNATURE", "showed a certificate whose key it does not have"),
        ("TLSV1_ALERT_DECRYPT_ERROR", "its signature is by another key"),
        ("NO_SHARED_CIPHER", "TLS failed (no shared cipher); check the address and the port"),
    ],
)
def test_failures_that_only_a_strange_peer_causes(reason: str, said: str) -> None:
    error = ssl.SSLError()
    error.reason = reason
    assert said in tls_reason(error)


def test_a_ca_vouches_for_both_sides(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.identity(tmp_path / "client", "door")
    server = authority.identity(tmp_path / "server", "match.example.org")
    trusts = Trust(ca=authority.path), Trust(ca=authority.path)
    met = connected(client, server, trusts, "match.example.org")
    assert met == Met("subject:match.example.org", "subject:door")
    met = connected(client, server, trusts, "other.example.org")
    assert "for another host name" in met.client
    stranger = create_identity(tmp_path / "stranger", "door")
    assert "unknown" in connected(stranger, server, trusts, "match.example.org").server


def test_pinned_clients_and_those_of_a_ca_come_to_one_server(client: Identity, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    of_ca = authority.identity(tmp_path / "of_ca", "gate")
    server = create_identity(tmp_path / "server", "match.example.org")
    trusts = pins(server), replace(pins(client), ca=authority.path)
    assert connected(client, server, trusts).server == client.fingerprint
    assert connected(of_ca, server, trusts).server == "subject:gate"


def test_a_client_without_certificate_is_refused(client: Identity, server: Identity) -> None:
    trusts = both(client, server)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    met = meet(bare, server_context(server, trusts[1]), trusts)
    assert "the peer showed no certificate" in met.server
    assert "the peer expects a certificate of this side" in met.client


def test_old_tls_is_refused(client: Identity, server: Identity) -> None:
    trusts = both(client, server)
    old = client_context(client, trusts[0])
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    met = meet(old, server_context(server, trusts[1]), trusts)
    assert "does not speak TLS 1.3" in met.server
    assert "does not speak TLS 1.3" in met.client


@pytest.mark.parametrize("is_server", [True, False])
def test_plain_text_is_no_tls(client: Identity, server: Identity, is_server: bool) -> None:
    trusts = both(client, server)
    context = server_context(server, trusts[1]) if is_server else client_context(client, trusts[0])
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(WAIT_SECONDS)
        there.sendall(b"GET / HTTP/1.1\r\n\r\n" if is_server else b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(OSError) as caught:  # noqa: PT011
            context.wrap_socket(here, server_side=is_server)
    assert "does not speak TLS; check the address and the port" in tls_reason(caught.value)


def test_a_peer_that_ends_or_is_silent(client: Identity, server: Identity) -> None:
    context = client_context(client, pins(server))
    here, there = socket.socketpair()
    there.close()
    with here, pytest.raises(OSError) as caught:  # noqa: PT011
        context.wrap_socket(here)
    assert "the peer ended the connection" in tls_reason(caught.value)
    here, there = socket.socketpair()
    here.settimeout(0.05)
    with here, there, pytest.raises(TimeoutError) as waited:
        context.wrap_socket(here)
    assert "did not answer in time" in tls_reason(waited.value)


def test_a_connection_cannot_be_resumed(client: Identity, server: Identity) -> None:
    """A client whose rights end cannot come back with a ticket of an earlier connection."""
    context = server_context(server, pins(client))
    assert context.num_tickets == 0
    here, there = socket.socketpair()
    for end in (here, there):
        end.settimeout(WAIT_SECONDS)

    def serve() -> None:
        with context.wrap_socket(there, server_side=True) as tls:
            tls.sendall(b"x")
            tls.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client_context(client, pins(server)).wrap_socket(here) as tls:
        assert tls.recv(1) == b"x"
        tls.sendall(b"x")
        assert tls.session is None or not tls.session.has_ticket
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


def test_a_server_does_not_say_whom_it_trusts(client: Identity, server: Identity) -> None:
    """It could list the names of its trust anchors in its request for a certificate: they are fingerprints."""
    context = server_context(server, pins(client))
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    heard: dict[str, bytes] = {}
    bare._msg_callback = lambda _c, _d, _v, _t, kind, data: heard.update({kind.name: data})  # type: ignore[attr-defined]
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, other = bare.wrap_bio(downwards, upwards), context.wrap_bio(upwards, downwards, server_side=True)
    for side in (one, other, one):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert "CERTIFICATE_REQUEST" in heard
    assert not [kind for kind, data in heard.items() if client.fingerprint.removeprefix("ed25519-").encode() in data]


def test_trust_and_contexts_are_checked(client: Identity, server: Identity, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="expected a fingerprint"):
        Trust(("ed25519-00",))
    with pytest.raises(ParameterError, match="lower case"):
        Trust((server.fingerprint.upper(),))
    for trust in (Trust(), replace(pins(server), ca=tmp_path / "ca.pem")):
        with pytest.raises(ParameterError, match="expected the server's fingerprint, or a CA, and not both"):
            client_context(client, trust)
    with pytest.raises(ParameterError, match="cannot read the CA's certificates"):
        client_context(client, Trust(ca=tmp_path / "missing.pem"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ParameterError, match="expected a CA's certificates in PEM"):
        server_context(server, Trust(ca=tmp_path / "ca.pem"))
    with pytest.raises(ProtocolError, match="cannot be read"):
        peer_name(b"no certificate", pins(server))


def test_a_leaf_is_never_its_own_issuer(server: Identity) -> None:
    """TLS would take it for a root of its own."""
    key, valid = read_key(server.folder), (server.expires - DAY, server.expires)
    leaf = issue_leaf(key, "match.example.org", *valid)
    assert leaf.subject != leaf.issuer
    with pytest.raises(ParameterError, match="got the digits of its key"):
        issue_leaf(key, server.fingerprint.removeprefix("ed25519-"), *valid)
