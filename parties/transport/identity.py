"""Keep an organisation's identity in a folder: the key that never leaves it, and the certificate that others see.

    key.pem            the identity key (Ed25519, PKCS8), for its owner alone
    certificate.pem    its certificate: signed by the key itself, or by a CA
    request.pem        where a CA signs: the request for it

Others recognise an organisation by its fingerprint, which is the public key. So a renewed certificate changes nothing
for them, and a lost or stolen key means a new identity.
"""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from parties.machine.durable import PUBLIC, created, make_folder, replaced
from parties.machine.plain_files import open_plain, read_plain
from parties.transport.certificates import (
    check_fingerprint,
    check_name,
    common_name,
    fingerprint_of,
    is_own,
    issue_leaf,
    issue_request,
)
from protocols.errors import ParameterError

__all__ = [
    "CERTIFICATE",
    "DAYS",
    "KEY",
    "REQUEST",
    "Identity",
    "check_fingerprint",
    "check_name",
    "create_identity",
    "create_request",
    "read_identity",
    "read_key",
    "renew_certificate",
]

CERTIFICATE, KEY, REQUEST = "certificate.pem", "key.pem", "request.pem"
DAYS = 730
"""How long a certificate is valid, unless somebody chooses otherwise."""

_MOST_DAYS = 36_500
_MOST_BYTES = 1 << 20
_BEFORE = timedelta(hours=1)
"""How much earlier than now a certificate begins, for peers whose clocks are slow."""


@dataclass(frozen=True)
class Identity:
    """An organisation's identity, as its folder holds it.

    Args:
        folder: where the key and the certificate are.
        fingerprint: the public key as text.
        name: the certificate's common name.
        expires: when the certificate ends, in UTC.
    """

    folder: Path
    fingerprint: str
    name: str
    expires: datetime

    @property
    def certificate(self) -> Path:
        """The certificate's file."""
        return self.folder / CERTIFICATE

    @property
    def key(self) -> Path:
        """The key's file."""
        return self.folder / KEY


def create_identity(folder: Path, name: str, days: int = DAYS) -> Identity:
    """Make a key and its certificate in a folder.

    Args:
        name: of the organisation; for a server, the host name by which clients reach it.
        days: how long the certificate is valid.

    Raises:
        ParameterError: there is a key already, which nothing replaces; or an argument is out of range.
        OSError: a file cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    certificate = _leaf(key, name, days)
    _keep_key(folder, key)
    _write(folder / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    return read_identity(folder)


def renew_certificate(folder: Path, days: int = DAYS) -> Identity:
    """Replace the certificate by one that is valid from now on; key, fingerprint and name stay.

    Raises:
        ParameterError: there is no identity, its certificate is from a CA, or `days` is out of range.
        OSError: the file cannot be written.
    """
    key, certificate = read_key(folder), _read_certificate(folder)
    if not is_own(certificate):
        raise ParameterError(f"cannot renew {folder / CERTIFICATE}: a CA has signed it; send the CA a request again")
    own = _identity(folder, key, certificate)
    _write(folder / CERTIFICATE, _leaf(key, own.name, days).public_bytes(Encoding.PEM))
    return read_identity(folder)


def create_request(folder: Path, name: str) -> Path:
    """Write a request for a certificate from a CA, and make the key if there is none; return the request's file.

    Raises:
        ParameterError: the name cannot stand in a certificate, or the key cannot be used.
        OSError: a file cannot be written.
    """
    check_name(name)
    if not (folder / KEY).exists():
        _keep_key(folder, Ed25519PrivateKey.generate())
    _write(folder / REQUEST, issue_request(read_key(folder), name))
    return folder / REQUEST


def read_identity(folder: Path) -> Identity:
    """Return the identity in a folder. An expired certificate is no error here: a connection with it fails.

    Raises:
        ParameterError: the key or the certificate is missing or cannot be used, they do not belong together, or others
            may read the key.
    """
    return _identity(folder, read_key(folder), _read_certificate(folder))


def read_key(folder: Path) -> Ed25519PrivateKey:
    """Return the identity key in a folder.

    Raises:
        ParameterError: there is none, others may read it, or it is another kind of key.
    """
    path = folder / KEY
    try:
        with open_plain(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ParameterError(
                    f"cannot use {path}: others may read it (mode {mode:04o}); run chmod 600 on it, and consider"
                    " whether somebody has"
                )
            content = file.read(_MOST_BYTES)
    except FileNotFoundError as error:
        raise ParameterError(f"expected an identity key, found no {path}; make one with the `init` command") from error
    except OSError as error:
        raise ParameterError(f"cannot read {path}: {error.strerror}") from error
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ParameterError(f"cannot use {path}: expected an Ed25519 key in PEM without a password")
    return key


def _identity(folder: Path, key: Ed25519PrivateKey, certificate: x509.Certificate) -> Identity:
    fingerprint, path = fingerprint_of(key.public_key()), folder / CERTIFICATE
    if fingerprint is None or fingerprint_of(certificate.public_key()) != fingerprint:
        raise ParameterError(f"cannot use {path}: it is of another key than {KEY}; put the right files together")
    name = common_name(certificate)
    if name is None:
        raise ParameterError(f"cannot use {path}: expected one common name in its subject")
    return Identity(folder, fingerprint, name, certificate.not_valid_after_utc)


def _read_certificate(folder: Path) -> x509.Certificate:
    """Return the first certificate of the file; a CA's own may follow."""
    path = folder / CERTIFICATE
    try:
        return x509.load_pem_x509_certificates(read_plain(path, _MOST_BYTES))[0]
    except FileNotFoundError as error:
        asked = f"; the CA answers {REQUEST} with it" if (folder / REQUEST).exists() else ""
        raise ParameterError(f"expected a certificate, found no {path}{asked}") from error
    except OSError as error:
        raise ParameterError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ParameterError(f"cannot use {path}: expected a certificate in PEM") from error


def _leaf(key: Ed25519PrivateKey, name: str, days: int) -> x509.Certificate:
    if not 1 <= days <= _MOST_DAYS:
        raise ParameterError(f"expected a certificate for 1 to {_MOST_DAYS} days, got {days}")
    now = datetime.now(UTC)
    return issue_leaf(key, name, now - _BEFORE, now + timedelta(days=days))


def _keep_key(folder: Path, key: Ed25519PrivateKey) -> None:
    make_folder(folder)
    try:
        with created(folder / KEY) as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except FileExistsError as error:
        raise ParameterError(
            f"cannot make the key {folder / KEY}: there is one already, and others may know it; choose another folder"
        ) from error


def _write(path: Path, content: bytes) -> None:
    with replaced(path, PUBLIC) as file:
        file.write(content)
