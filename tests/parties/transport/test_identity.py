"""Identities in folders: made once, renewed, requested from a CA, and refused when something is wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from parties.transport.identity import (
    CERTIFICATE,
    KEY,
    REQUEST,
    check_fingerprint,
    create_identity,
    create_request,
    read_identity,
    renew_certificate,
)
from protocols.errors import ParameterError
from support.certificates import Authority


def alternatives(folder: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(one.value) for one in found.value]


def test_an_identity_is_made_once(tmp_path: Path) -> None:
    made = create_identity(tmp_path / "new" / "own", "match.example.org", days=10)
    assert made == read_identity(made.folder)
    assert made.fingerprint == check_fingerprint(f" {made.fingerprint.upper()}\n")
    assert (made.folder / KEY).stat().st_mode & 0o777 == 0o600
    left = made.expires - datetime.now(UTC)
    assert timedelta(days=9, hours=23) < left <= timedelta(days=10)
    before = (made.folder / KEY).read_bytes(), (made.folder / CERTIFICATE).read_bytes()
    with pytest.raises(ParameterError, match="there is one already"):
        create_identity(made.folder, "other.example.org")
    assert ((made.folder / KEY).read_bytes(), (made.folder / CERTIFICATE).read_bytes()) == before


def test_a_renewed_certificate_keeps_key_and_name(tmp_path: Path) -> None:
    made = create_identity(tmp_path, "the door", days=10)
    renewed = renew_certificate(tmp_path, days=20)
    assert (renewed.fingerprint, renewed.name) == (made.fingerprint, "the door")
    assert renewed.expires > made.expires


def test_host_names_and_addresses_can_be_asked_for(tmp_path: Path) -> None:
    for number, name in enumerate(("match.example.org", "localhost", "192.0.2.1", "2001:db8::1")):
        create_identity(tmp_path / str(number), name)
        assert alternatives(tmp_path / str(number)) == [name]
    create_identity(tmp_path / "door", "the door")
    with pytest.raises(x509.ExtensionNotFound):
        alternatives(tmp_path / "door")


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", " a"])
def test_names_that_are_none_leave_nothing(tmp_path: Path, name: str) -> None:
    for make in (create_identity, create_request):
        with pytest.raises(ParameterError, match="expected a name of 1 to 64 printable characters"):
            make(tmp_path / "own", name)
    assert not (tmp_path / "own").exists()


def test_days_that_are_none(tmp_path: Path) -> None:
    for days in (0, -1, 40_000):
        with pytest.raises(ParameterError, match="expected a certificate for 1 to 36500 days"):
            create_identity(tmp_path, "door", days)


@pytest.mark.parametrize("text", ["", "ed25519-", "ed25519-" + "g" * 64, "0" * 64, "ed25519-" + "0" * 65])
def test_fingerprints_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="expected a fingerprint, ed25519- and 64 hexadecimal digits"):
        check_fingerprint(text)


def test_a_ca_signs_the_request(tmp_path: Path) -> None:
    own = tmp_path / "own"
    first = create_request(own, "match.example.org")
    assert first == own / REQUEST
    with pytest.raises(ParameterError, match="the CA answers request.pem with it"):
        read_identity(own)
    key = (own / KEY).read_bytes()
    got = Authority(tmp_path).identity(own, "match.example.org")
    assert (own / KEY).read_bytes() == key
    assert alternatives(own) == ["match.example.org"]
    assert got.name == "match.example.org"
    with pytest.raises(ParameterError, match="a CA has signed it; send the CA a request again"):
        renew_certificate(own)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_identity(tmp_path, "door")
    for mode in (0o640, 0o604, 0o620):
        (tmp_path / KEY).chmod(mode)
        with pytest.raises(ParameterError, match=f"others may read it .mode 0{mode:o}.; run chmod 600"):
            read_identity(tmp_path)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="expected an identity key, found no"):
        read_identity(tmp_path)
    create_identity(tmp_path, "door")
    create_identity(tmp_path / "other", "door")
    good = (tmp_path / KEY).read_bytes()
    (tmp_path / KEY).write_bytes((tmp_path / "other" / KEY).read_bytes())
    with pytest.raises(ParameterError, match="it is of another key than key.pem"):
        read_identity(tmp_path)
    curve = ec.generate_private_key(ec.SECP256R1())
    other = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"nothing", good[:40], other):
        (tmp_path / KEY).write_bytes(content)
        with pytest.raises(ParameterError, match="expected an Ed25519 key in PEM"):
            read_identity(tmp_path)
    (tmp_path / KEY).write_bytes(good)
    for content in (b"", b"nothing", (tmp_path / CERTIFICATE).read_bytes()[:90]):
        (tmp_path / CERTIFICATE).write_bytes(content)
        with pytest.raises(ParameterError, match="expected a certificate in PEM"):
            read_identity(tmp_path)
    (tmp_path / CERTIFICATE).unlink()
    with pytest.raises(ParameterError, match="expected a certificate, found no"):
        read_identity(tmp_path)
