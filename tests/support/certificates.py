"""Identities with unusual certificates, a CA, and real TLS connections over a pair of sockets."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from parties.transport.certificates import issue_leaf
from parties.transport.identity import CERTIFICATE, Identity, create_request, read_identity, read_key
from parties.transport.tls import Trust, client_context, peer_name, server_context, tls_reason

WAIT_SECONDS = 20.0
DAY = timedelta(days=1)


def dated(own: Identity, begins: timedelta, expires: timedelta) -> Identity:
    """Give an identity a certificate that begins and expires so long from now."""
    now = datetime.now(UTC)
    leaf = issue_leaf(read_key(own.folder), own.name, now + begins, now + expires)
    own.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    return read_identity(own.folder)


def leaf_of(key: Ed25519PrivateKey, signer: Ed25519PrivateKey, name: str, issuer: str) -> x509.Certificate:
    """Return a certificate of one key that another key has signed, with any names."""
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    return (
        x509.CertificateBuilder(issuer_name=names[1], subject_name=names[0], public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(signer, None)
    )


class Authority:
    """A CA with its file of certificates."""

    def __init__(self, folder: Path) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA")])
        self.path = folder / "ca.pem"
        own = self._builder(self._name, self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.path.write_bytes(own.sign(self._key, None).public_bytes(Encoding.PEM))

    def identity(self, folder: Path, name: str) -> Identity:
        """Make an identity whose certificate this CA has signed."""
        request = x509.load_pem_x509_csr(create_request(folder, name).read_bytes())
        assert request.is_signature_valid
        builder = self._builder(request.subject, request.public_key())
        for one in request.extensions:
            builder = builder.add_extension(one.value, critical=one.critical)
        (folder / CERTIFICATE).write_bytes(builder.sign(self._key, None).public_bytes(Encoding.PEM))
        return read_identity(folder)

    def _builder(self, subject: x509.Name, key: object) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )


@dataclass(frozen=True)
class Met:
    """What each side has learned from a connection: the peer's name, or why there was no connection."""

    client: str
    server: str


def meet(client: ssl.SSLContext, server: ssl.SSLContext, trusts: tuple[Trust, Trust], host: str | None = None) -> Met:
    """Connect a client to a server; the server sends a byte, and the client answers with one.

    The client reads first: after a write to a server that has refused it, the refusal may be lost.

    Args:
        trusts: of the client and of the server.
        host: the name that the client asks for.
    """
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(WAIT_SECONDS)

    def side(end: socket.socket, context: ssl.SSLContext, trust: Trust, is_server: bool) -> str:
        try:
            with context.wrap_socket(end, server_side=is_server, server_hostname=None if is_server else host) as tls:
                if is_server:
                    tls.sendall(b"x")
                if tls.recv(1) != b"x":
                    return "ended"
                if not is_server:
                    tls.sendall(b"x")
                der = tls.getpeercert(binary_form=True)
                assert der is not None
                assert tls.version() == "TLSv1.3"
                return peer_name(der, trust)
        except OSError as error:
            return tls_reason(error)
        finally:
            end.close()

    with ThreadPoolExecutor(2) as pool:
        sides = [
            pool.submit(side, ends[0], client, trusts[0], False),
            pool.submit(side, ends[1], server, trusts[1], True),
        ]
        return Met(*(one.result(2 * WAIT_SECONDS) for one in sides))


def connected(client: Identity, server: Identity, trusts: tuple[Trust, Trust], host: str | None = None) -> Met:
    """Connect two identities, with the product's own contexts: see `meet`."""
    return meet(client_context(client, trusts[0]), server_context(server, trusts[1]), trusts, host)
