"""The servers that a client knows: added, found, pinned and forgotten."""

from pathlib import Path

import pytest

from hybridface.errors import ConfigurationError
from hybridface.remote.known import add_server, forget_server, known_server, known_servers, pin, unpin
from hybridface.service.address import Address, parse_address
from protocols.errors import ParameterError

KEY, OTHER = "ed25519-" + "a" * 64, "ed25519-" + "b" * 64
DIGEST = "0123456789abcdef" * 4
ADDRESS = parse_address("match.example.org")


def test_a_server_is_known_by_name_and_address(tmp_path: Path) -> None:
    added = add_server(tmp_path, ADDRESS, fingerprint=KEY)
    assert (added.name, added.address, added.trust.fingerprints, added.pins) == (
        "match.example.org",
        ADDRESS,
        (KEY,),
        {},
    )
    six = add_server(tmp_path, Address("2001:db8::1", 9), fingerprint=OTHER)
    assert six.name == "2001-db8--1"
    for called in ("match.example.org", "match.example.org:7461", "MATCH.example.org"):
        assert known_server(tmp_path, called) == added
    assert known_server(tmp_path, "[2001:db8::1]:9") == six
    assert known_servers(tmp_path) == [six, added]
    for called in ("match.example.org:7462", "other", "", "../x"):
        with pytest.raises(ConfigurationError, match=r"known are: .*match.example.org \(match.example.org:7461\)"):
            known_server(tmp_path, called)
    with pytest.raises(ConfigurationError, match="known are: none yet"):
        known_server(tmp_path / "empty", "other")


def test_a_server_with_a_ca(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    added = add_server(tmp_path, ADDRESS, ca=tmp_path / "ca.pem", name="match")
    assert known_server(tmp_path, "match") == added
    assert (added.trust.fingerprints, added.trust.ca) == ((), (tmp_path / "ca.pem").resolve())


def test_another_key_replaces_none(tmp_path: Path) -> None:
    added = add_server(tmp_path, ADDRESS, fingerprint=KEY, name="match")
    pinned = pin(tmp_path, "match", "tiny-test", DIGEST)
    assert add_server(tmp_path, ADDRESS, fingerprint=KEY, name="match") == pinned
    for address, key, name in ((ADDRESS, OTHER, "match"), (ADDRESS, OTHER, "new"), (parse_address("b"), KEY, "match")):
        with pytest.raises(ConfigurationError, match="there is match .* already; if its key has changed"):
            add_server(tmp_path, address, fingerprint=key, name=name)
    forget_server(tmp_path, "match")
    assert known_servers(tmp_path) == []
    assert added.pins == {}


def test_networks_are_pinned(tmp_path: Path) -> None:
    add_server(tmp_path, ADDRESS, fingerprint=KEY)
    pin(tmp_path, "match.example.org", "tiny-test", "f" * 64)
    pinned = pin(tmp_path, "match.example.org", "tiny-test", DIGEST)
    assert pinned == known_server(tmp_path, "match.example.org")
    assert pinned.pins == {"tiny-test": DIGEST}
    with pytest.raises(ConfigurationError, match=r"expected a pinned network of match.example.org \(tiny-test\), got"):
        unpin(tmp_path, "match.example.org", "patchnet")
    assert unpin(tmp_path, "match.example.org", "tiny-test").pins == {}
    assert known_server(tmp_path, "match.example.org").pins == {}
    for digest in ("", "0" * 63, "g" * 64):
        with pytest.raises(ParameterError, match="expected a digest, 32 bytes in hexadecimal"):
            pin(tmp_path, "match.example.org", "tiny-test", digest)


def test_arguments_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="and not both"):
        add_server(tmp_path, ADDRESS)
    with pytest.raises(ParameterError, match="expected a fingerprint"):
        add_server(tmp_path, ADDRESS, fingerprint="ed25519-0")
    with pytest.raises(ParameterError, match="found no"):
        add_server(tmp_path, ADDRESS, ca=tmp_path / "missing.pem")
    with pytest.raises(ConfigurationError, match="expected a name of a server"):
        add_server(tmp_path, ADDRESS, fingerprint=KEY, name="../x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected address = "),
        ('address = "a"', "expected either a fingerprint or a ca"),
        (f'address = "a"\nfingerprint = "{KEY}"\nca = "b"', "expected either a fingerprint or a ca"),
        (f'address = "a"\nfingerprint = "{KEY}"\nport = 1', "unknown key port"),
        (f'address = "a"\nfingerprint = "{KEY}"\n[models]\nx = "0"', "expected models.x to be 32 bytes in hexadecimal"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "a.toml").write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        known_server(tmp_path, "a")
    assert said in str(caught.value)
    assert "servers/a.toml" in str(caught.value)
