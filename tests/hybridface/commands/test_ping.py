"""`hybridface ping`, and other commands with `--server`, in one process with the server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hybridface.output import documents
from hybridface.remote.known import known_server, pin
from hybridface.version import __version__
from parties.gallery.rights import Right
from parties.transport.identity import read_identity
from support.ranks import Done
from support.remote_server import NAME, RemoteServerThread, serving

Call = Callable[..., Done]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RemoteServerThread]:
    with serving(tmp_path, "tiny-test", galleries={"staff": tuple(Right)}) as running:
        yield running


def asked(call: Call, server: RemoteServerThread, command: str, *arguments: object) -> Done:
    return call(command, *arguments, "--server", NAME, "--identity", server.identity)


def test_ping_says_what_is_there(call: Call, server: RemoteServerThread) -> None:
    status, out, errors = asked(call, server, "ping", "--json")
    assert (status, errors) == (0, "")
    found = json.loads(out)
    jsonschema.validate(found, json.loads((Path(documents.__file__).parent / "answers.schema.json").read_text()))
    digest, own = server.catalogue.models["tiny-test"].digest, read_identity(server.folder)
    assert found["models"] == [{"name": "tiny-test", "digest": digest, "state": "new", "compares": True}]
    assert found["galleries"][0]["name"] == "staff"
    assert set(found["galleries"][0]["may"]) == set(Right)
    assert (found["server"], found["client"], found["busy"]) == ("match.example.org", "bank", False)
    assert (found["version"], found["identity"]) == (__version__, own.fingerprint)
    assert found["expires"] == own.expires.isoformat()
    assert found["round_trip_ms"] > 0
    assert known_server(server.identity, NAME).pins == {}


def test_ping_shows_a_table(call: Call, server: RemoteServerThread) -> None:
    pin(server.identity, NAME, "tiny-test", "0" * 64)
    server.alter = lambda said: {**said, "client": "[/bank] [bold]x"}
    status, out, _ = asked(call, server, "ping")
    assert status == 0
    assert "(changed; photos, galleries)" in out
    assert "[/bank] [bold]x" in out
    assert "TLSv1.3" in out


def test_ping_reaches_nobody(call: Call, server: RemoteServerThread) -> None:
    server.hangs_up = True
    status, out, errors = asked(call, server, "ping")
    assert (status, out) == (2, "")
    assert f"match at {server.address}: " in errors


@pytest.mark.slow
def test_the_server_chooses_no_file_for_a_key(
    call: Call, server: RemoteServerThread, photos: dict[str, str], home: Path
) -> None:
    server.alter = lambda said: {**said, "galleries": [{**said["galleries"][0], "name": f"{home}/stolen"}]}
    status, out, errors = asked(call, server, "enroll", photos["a"], "--id", "Ann", "--aligned")
    assert (status, out) == (2, "")
    assert "name" in errors
    assert not list(home.rglob("stolen*"))


@pytest.mark.slow
def test_commands_use_the_server(call: Call, server: RemoteServerThread, photos: dict[str, str], home: Path) -> None:
    def done(command: str, *arguments: object) -> tuple[int, Any]:
        status, out, errors = asked(call, server, command, *arguments, "--aligned", "--json", "--quiet")
        assert out, errors
        return status, json.loads(out)

    status, found = done("verify", photos["a"], photos["same"])
    assert (status, found["match"]) == (0, True)
    status, found = done("verify", photos["a"], photos["different"])
    assert (status, found["match"]) == (1, False)
    status, found = done("enroll", photos["a"], "--id", "Ann")
    assert status == 0, found
    assert (server.identity / "keys" / NAME / "staff.key").is_file()
    status, found = done("identify", photos["same"])
    assert (status, found["model"]) == (0, "tiny-test")
    status, found = done("verify", photos["different"], "--id", "Ann")
    assert (status, found["model"]) == (1, "tiny-test")
    assert server.errors == []


def test_a_refusal_is_one_line(call: Call, server: RemoteServerThread, photos: dict[str, str]) -> None:
    server.is_busy = True
    status, out, errors = asked(call, server, "verify", photos["a"], photos["same"], "--aligned")
    assert (status, out) == (2, "")
    assert "match: it is busy with 4 sessions" in errors


@pytest.mark.parametrize("option", [["--workers", "1"], ["--link", "lan"], ["--cache", "none"], ["--threshold", "0.5"]])
def test_what_the_server_decides_is_no_option(call: Call, photos: dict[str, str], option: list[str]) -> None:
    status, out, errors = call("verify", photos["a"], photos["same"], "--server", "any", *option)
    assert (status, out) == (2, "")
    assert f"{option[0]}" in errors
    assert "with --server, which decides that itself" in errors
