"""`hybridface client`: an identity, and the servers that the client trusts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridface.remote.known import known_server, pin
from parties.transport.identity import read_identity
from support.ranks import Done

KEY, OTHER = "ed25519-" + "a" * 64, "ed25519-" + "b" * 64
Call = Callable[..., Done]

pytestmark = pytest.mark.usefixtures("home")


def refused(call: Call, *arguments: object) -> str:
    status, out, errors = call("client", *arguments)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    return errors


def test_an_identity_is_made_and_renewed(call: Call, home: Path) -> None:
    status, out, errors = call("client", "init", "--name", "door")
    own = read_identity(home / "XDG_CONFIG_HOME" / "hybridface")
    assert (status, errors, own.name) == (0, "", "door")
    assert f"fingerprint: {own.fingerprint}\n" in out
    assert "there is a key already" in refused(call, "init")
    status, out, _ = call("client", "renew", "--days", 5, "--json")
    renewed = json.loads(out)
    assert (status, renewed["fingerprint"], renewed["expired"]) == (0, own.fingerprint, False)
    assert read_identity(own.folder).expires < own.expires


def test_an_identity_in_a_folder_of_choice(call: Call, home: Path) -> None:
    assert "found no" in refused(call, "renew", "--identity", home / "own")
    assert call("client", "init", "--identity", home / "own", "--request")[0] == 0
    assert (home / "own" / "request.pem").exists()
    assert not (home / "XDG_CONFIG_HOME").exists()
    assert "expected a name of 1 to 64" in refused(call, "init", "--identity", home / "new", "--name", " ")
    assert not (home / "new").exists()


def test_servers_are_trusted_and_forgotten(call: Call, home: Path) -> None:
    document = {"server": "match", "address": "match.example.org:7461", "fingerprint": KEY, "ca": None, "models": {}}
    status, out, _ = call("client", "add", "match.example.org", KEY, "--as", "match", "--json")
    assert (status, json.loads(out)) == (0, document)
    assert json.loads(call("client", "servers", "--json")[1]) == {"servers": [document]}
    assert KEY in call("client", "servers")[1]
    assert "if its key has changed, ask its operator why" in refused(call, "add", "match.example.org", OTHER)
    assert "expected a fingerprint" in refused(call, "add", "other.example.org", "ed25519-0")
    assert "expected the server's fingerprint, or the file of a CA" in refused(call, "add", "other.example.org")
    assert "expected a known server" in refused(call, "forget", "other")
    assert call("client", "forget", "match.example.org:7461")[:2] == (0, "forgot match\n")
    assert json.loads(call("client", "servers", "--json")[1]) == {"servers": []}


def test_a_ca_is_trusted(call: Call, home: Path) -> None:
    (home / "ca.pem").touch()
    assert call("client", "add", "match.example.org:9", "--ca", home / "ca.pem")[0] == 0
    (found,) = json.loads(call("client", "servers", "--json")[1])["servers"]
    assert (found["fingerprint"], found["ca"]) == (None, str((home / "ca.pem").resolve()))


def test_a_changed_network_is_accepted(call: Call, home: Path) -> None:
    own = home / "own"
    assert call("client", "add", "match.example.org", KEY, "--identity", own)[0] == 0
    pin(own, "match.example.org", "tiny-test", "0" * 64)
    arguments = "trust", "match.example.org", "--identity", own, "--model"
    assert "expected a pinned network of match.example.org (tiny-test)" in refused(call, *arguments, "patchnet")
    assert call("client", *arguments, "tiny-test")[0] == 0
    assert known_server(own, "match.example.org").pins == {}
