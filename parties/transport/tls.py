"""Make the TLS 1.3 contexts of client and server, name the verified peer, and say in plain words why TLS failed.

Both sides verify each other, always. A *trust* lists the peers that this side accepts: pinned fingerprints, or
certificates from a CA. Python's `ssl` does the verification; this module gives it the trust anchors
(`parties.transport.certificates`).

**What each side sees.** TLS 1.3 encrypts both certificates: a listener on the network sees neither name. A server shows
its certificate to everybody who connects; a client shows its own only to a server that it has verified. The server does
not say whom it trusts.

**Pitfall.** In TLS 1.3 a client learns that the server has refused its certificate only when it first reads.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from parties.machine.plain_files import read_plain
from parties.transport.certificates import anchor_of, check_fingerprint, common_name, fingerprint_of
from parties.transport.identity import Identity, read_key
from protocols.errors import ParameterError, ProtocolError

__all__ = ["Trust", "client_context", "peer_name", "server_context", "tls_reason"]

_MOST_BYTES = 1 << 20

_NOT_YET_VALID, _EXPIRED, _BAD_SIGNATURE = 9, 10, 7
_UNKNOWN = 2, 18, 19, 20, 21
_WRONG_HOST = 62, 64
_OF_CODE = {
    _NOT_YET_VALID: "the peer's certificate is not valid yet; check the clocks of both machines",
    _EXPIRED: "the peer's certificate has expired; the peer's operator must renew it (or check this machine's clock)",
    _BAD_SIGNATURE: "the peer's certificate is signed by another key than the trusted one; do not trust this peer",
    **dict.fromkeys(
        _UNKNOWN, "the peer's key is unknown here; compare its fingerprint with the one that you were given"
    ),
    **dict.fromkeys(
        _WRONG_HOST, "the peer's certificate is for another host name; check the address, or ask for a new certificate"
    ),
}
_UNKNOWN_HERE = "the peer does not know this side's key; send the peer's operator this side's fingerprint"
_NOT_TLS = "the peer does not speak TLS; check the address and the port"
_OLD_TLS = "the peer does not speak TLS 1.3; it needs a newer version"
_OF_REASON = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate; it must connect with its identity",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer expects a certificate of this side; connect with an identity",
    "TLSV1_ALERT_UNKNOWN_CA": _UNKNOWN_HERE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _UNKNOWN_HERE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this side's certificate has expired; renew it (or check the peer's clock)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses this side's certificate; check the clocks, or renew it",
    "TLSV1_ALERT_DECRYPT_ERROR": "the peer refuses this side's certificate: its signature is by another key",
    "BAD_SIGNATURE": "the peer showed a certificate whose key it does not have; do not trust this peer",
    **dict.fromkeys(
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"), _NOT_TLS
    ),
    **dict.fromkeys(("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"), _OLD_TLS),
}


@dataclass(frozen=True)
class Trust:
    """The peers that a side accepts.

    Args:
        fingerprints: of the peers whose keys are pinned.
        ca: a file with CA certificates in PEM, which sign the certificates of peers; None for none.

    Raises:
        ParameterError: a fingerprint is none.
    """

    fingerprints: tuple[str, ...] = ()
    ca: Path | None = None

    def __post_init__(self) -> None:
        for fingerprint in self.fingerprints:
            if check_fingerprint(fingerprint) != fingerprint:
                raise ParameterError(f"expected a fingerprint in lower case, got {fingerprint[:80]!r}")


def server_context(own: Identity, clients: Trust) -> ssl.SSLContext:
    """Return a server's TLS: 1.3 only, and only for clients that it trusts. Without any, it refuses everybody.

    There is no resumption, so each connection verifies the client anew.

    Raises:
        ParameterError: a file cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, own, clients)
    context.num_tickets = 0
    return context


def client_context(own: Identity, server: Trust) -> ssl.SSLContext:
    """Return a client's TLS: 1.3 only, and only for the server that it trusts.

    Pinned servers are known by their keys. With a CA the caller gives `server_hostname`, which TLS then checks.

    Raises:
        ParameterError: the trust is empty, or mixes fingerprints and a CA; or a file cannot be used.
    """
    if bool(server.fingerprints) == bool(server.ca):
        raise ParameterError("expected the server's fingerprint, or a CA, and not both")
    return _context(ssl.PROTOCOL_TLS_CLIENT, own, server)


def peer_name(der: bytes, trust: Trust) -> str:
    """Return who a peer is, from the certificate that TLS has verified: its fingerprint, or "subject:CN" with a CA.

    A pinned organisation could sign a certificate of another key in any name. So a certificate counts as a CA's only if
    one of the CA certificates has signed it, unless no fingerprint is pinned and the CA alone can have vouched for it.

    Args:
        der: what `ssl.SSLSocket.getpeercert(binary_form=True)` returns after the handshake.

    Raises:
        ProtocolError: the certificate is not one of a trusted peer.
        ParameterError: the file of the CA cannot be used.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        fingerprint, name = fingerprint_of(certificate.public_key()), common_name(certificate)
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise ProtocolError("expected a peer's certificate, got something that cannot be read") from error
    if fingerprint in trust.fingerprints:
        return str(fingerprint)
    if trust.ca is None or (trust.fingerprints and not _is_signed_by(certificate, trust.ca)):
        raise ProtocolError("expected a certificate of a trusted key, got one of another key")
    if not name or not name.isprintable():
        raise ProtocolError("expected a certificate with one printable common name, got another one")
    return f"subject:{name}"


def tls_reason(error: Exception) -> str:
    """Return one sentence that says why a TLS connection failed, and what to do.

    Args:
        error: what the socket has raised, in the handshake or at the first read after it.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        said = str(error.verify_message).strip() or "no reason given"
        return _OF_CODE.get(error.verify_code, f"the peer's certificate was refused: {said}")
    reason = str(getattr(error, "reason", None) or "")
    if reason in _OF_REASON:
        return _OF_REASON[reason]
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return "the peer ended the connection before TLS was agreed; its own log says why"
    if isinstance(error, TimeoutError):
        return "the peer did not answer in time; check that it runs, and that no firewall is between"
    return f"TLS failed ({(reason or type(error).__name__).lower().replace('_', ' ')}); check the address and the port"


def _context(protocol: int, own: Identity, trust: Trust) -> ssl.SSLContext:
    pinner = read_key(own.folder)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if protocol == ssl.PROTOCOL_TLS_CLIENT and trust.fingerprints:
        context.check_hostname = False  # the pinned key is the name
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if trust.fingerprints:
        context.load_verify_locations(cadata=b"".join(anchor_of(one, pinner) for one in trust.fingerprints))
    if trust.ca is not None:
        _read_ca(trust.ca)
        context.load_verify_locations(cafile=trust.ca)
    try:
        context.load_cert_chain(own.certificate, own.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ParameterError(f"cannot use {own.certificate} with {own.key.name}: {tls_reason(error)}") from error
    return context


def _read_ca(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a CA's file."""
    try:
        return x509.load_pem_x509_certificates(read_plain(path, _MOST_BYTES))
    except OSError as error:
        raise ParameterError(f"cannot read the CA's certificates {path}: {error.strerror}") from error
    except ValueError as error:
        raise ParameterError(f"cannot use {path}: expected a CA's certificates in PEM") from error


def _is_signed_by(certificate: x509.Certificate, ca: Path) -> bool:
    for issuer in _read_ca(ca):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
