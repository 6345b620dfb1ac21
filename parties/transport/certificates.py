"""Issue and read the certificates of identity keys, and turn a pinned key into something that TLS can trust.

An organisation's *identity key* is an Ed25519 key. Its *fingerprint* is the public key itself, as text. Its
certificate is a leaf that the identity key signs. Subject and issuer differ, so TLS looks for an issuer and does not
take the leaf for a root:

    leaf      subject = the organisation's name     issuer = its public key in hexadecimal
    anchor    subject = its public key              issuer = the public key of whoever pins it

Whoever pins a fingerprint makes the anchor from it: a CA certificate of the pinned public key. TLS then verifies the
chain leaf -> anchor as it verifies any other chain, so no verification is switched off. The leaf may be renewed at any
time, since the anchor depends on the key alone. A common name has room for 64 characters: for the digits of a key,
not for the prefix of a fingerprint.

An anchor may sign nothing but leaves (path length 0). A pinned organisation could still sign a leaf of another key;
`fingerprint_of` shows the leaf's own key, by which `parties.transport.tls` recognises a peer.
"""

import ipaddress
import re
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.errors import ParameterError

__all__ = [
    "anchor_of",
    "check_fingerprint",
    "check_name",
    "common_name",
    "expiry_of",
    "fingerprint_of",
    "is_own",
    "issue_leaf",
    "issue_request",
]

_PREFIX = "ed25519-"
_FINGERPRINT = re.compile(f"{_PREFIX}[0-9a-f]{{64}}")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I)
_MOST_NAME = 64
_SHOWN = 80
_FOR_EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def check_fingerprint(text: str) -> str:
    """Return a fingerprint in its one form: `ed25519-` and 64 lower-case hexadecimal digits.

    Raises:
        ParameterError: the text is no fingerprint.
    """
    fingerprint = text.strip().lower()
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ParameterError(
            f"expected a fingerprint, {_PREFIX} and 64 hexadecimal digits, got {text[:_SHOWN]!r};"
            " ask the other organisation for the line that its `init` command has printed"
        )
    return fingerprint


def check_name(name: str) -> str:
    """Return a name that a certificate can hold.

    Raises:
        ParameterError: the name has no or too many characters, or some that do not print.
    """
    if not 1 <= len(name) <= _MOST_NAME or not name.isprintable() or name != name.strip():
        raise ParameterError(f"expected a name of 1 to {_MOST_NAME} printable characters, got {name[:_SHOWN]!r}")
    return name


def fingerprint_of(key: object) -> str | None:
    """Return the fingerprint of a public key; None for a key that is not Ed25519."""
    return _PREFIX + key.public_bytes_raw().hex() if isinstance(key, Ed25519PublicKey) else None


def issue_leaf(key: Ed25519PrivateKey, name: str, begins: datetime, expires: datetime) -> x509.Certificate:
    """Return an organisation's certificate, signed by its own identity key.

    Args:
        name: of the organisation; where it is a host name or an address, also the name by which TLS finds it.
        begins, expires: when the certificate is valid.

    Raises:
        ParameterError: the name cannot stand in a certificate.
    """
    own = key.public_key()
    if check_name(name) == _digits(own):
        raise ParameterError("expected a name of the organisation, got the digits of its key")
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(name, _digits(own), own, (begins, expires))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
    )
    if host := _alternative(name):
        builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
    return builder.sign(key, None)


def anchor_of(fingerprint: str, pinner: Ed25519PrivateKey) -> bytes:
    """Return the trust anchor of a pinned fingerprint: a CA certificate in DER that never expires.

    Args:
        pinner: the identity key of the organisation that trusts the pinned one; it signs the anchor.

    Raises:
        ParameterError: the fingerprint is none.
    """
    pinned = Ed25519PublicKey.from_public_bytes(bytes.fromhex(check_fingerprint(fingerprint).removeprefix(_PREFIX)))
    by = pinner.public_key()
    builder = (
        _builder(_digits(pinned), _digits(by), pinned, _FOR_EVER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign"), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by), critical=False)
    )
    return builder.sign(pinner, None).public_bytes(Encoding.DER)


def issue_request(key: Ed25519PrivateKey, name: str) -> bytes:
    """Return a request in PEM that asks a CA for a certificate of the identity key.

    Raises:
        ParameterError: the name cannot stand in a certificate.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_named(check_name(name)))
    if host := _alternative(name):
        builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.PEM)


def is_own(certificate: x509.Certificate) -> bool:
    """Return whether a certificate's own key has signed it, so that no CA is needed for another one."""
    key = certificate.public_key()
    return isinstance(key, Ed25519PublicKey) and certificate.issuer == _named(_digits(key))


def common_name(certificate: x509.Certificate) -> str | None:
    """Return a certificate's common name; None if it has none, or several."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def expiry_of(der: bytes) -> datetime:
    """Return when a certificate expires, in UTC.

    Raises:
        ParameterError: the certificate is damaged.
    """
    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc
    except ValueError as error:
        raise ParameterError("expected a certificate, got something that cannot be read") from error


def _builder(
    subject: str, issuer: str, key: Ed25519PublicKey, valid: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _digits(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()


def _usage(allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{**_NO_USAGE, allowed: True})


def _alternative(name: str) -> x509.GeneralName | None:
    """Return the host name or address that a name is; None if it is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name) if _HOST.fullmatch(name) else None
