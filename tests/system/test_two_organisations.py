"""Two organisations on two hosts with one link: what works, and what each side says when something does not.

Each test ends with a server that still serves.
"""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from parties.transport.identity import create_identity, read_identity
from support.certificates import DAY
from support.organisations import (
    END_SECONDS,
    SERVER,
    Organisations,
    ServerProcess,
    await_no_session,
    certificate,
    changed,
    in_client,
    lines_of,
    refused,
    session,
    sessions_of,
    verified,
)
from support.tiny_network import save_people

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(both: Organisations) -> Iterator[ServerProcess]:
    with both.serving() as server:
        yield server


def test_both_sides_do_all_that_people_do(both: Organisations, served: ServerProcess) -> None:
    client = both.client
    told = client.done("ping", *SERVER)
    assert (told["client"], told["compares"]) == ("bank", ["tiny-test"])
    assert verified(both)
    different = client.run("verify", "a.png", "different.png", "--aligned", *SERVER)
    assert (different.returncode, different.stdout.splitlines()[0]) == (1, "different people")
    client.done("enroll", "--id", "ann", "a.png", "--aligned", *SERVER)
    assert client.done("verify", "same.png", "--id", "ann", "--aligned", *SERVER)["match"]
    assert client.done("identify", "same.png", "--aligned", *SERVER)["identities"] == ["ann"]
    with served.awaiting("decision"):
        assert (
            client.done("verify", "same.png", "--id", "ann", "--aligned", "--reveal", "server", *SERVER)["match"]
            is None
        )
    assert served.last("decision")["match"]
    client.done("rename", "ann", "zoe", *SERVER)
    assert client.done("list", *SERVER)["people"] == [{"identity": "zoe", "photos": 1}]
    client.done("rotate-key", "new.key", *SERVER)
    assert client.done("remove", "zoe", *SERVER, "--key", "new.key")["removed"] == 1
    folder = save_people(client.home / "people", 3)
    new = ("--key", "new.key", *SERVER)
    assert client.done("import", str(folder), "--aligned", "--identity-from", "file", *new)["enrolled"]
    again = client.done("import", str(folder), "--aligned", "--identity-from", "file", *new)
    assert not again["enrolled"]
    log = [json.loads(line) for line in (both.folder / "audit.jsonl").read_text().splitlines()]
    assert {line["client"] for line in log} == {"bank"}
    assert {"gallery-enroll", "gallery-verify", "gallery-identify"} <= {line.get("operation") for line in log}
    assert not any(word in json.dumps(log) for word in ("ann", "zoe"))


def test_a_clients_certificate_of_another_year_is_refused(both: Organisations, served: ServerProcess) -> None:
    folder = both.client.home / "config" / "hybridface"
    with certificate(folder, -800 * DAY, -DAY):
        assert "certificate has expired" in refused(both, "ping")
    with certificate(folder, 365 * DAY, 800 * DAY):
        assert "clocks" in refused(both, "ping")
    both.client.done("ping", *SERVER)


def test_a_client_that_is_not_let_in(both: Organisations, served: ServerProcess, tmp_path: Path) -> None:
    stranger = create_identity(tmp_path / "stranger", "stranger")
    known = both.client.home / "config" / "hybridface" / "servers"
    (stranger.folder / "servers").symlink_to(known)
    assert "does not know this side's key" in refused(both, "ping", "--identity", str(stranger.folder))
    both.client.done("ping", *SERVER)


def reload(server: ServerProcess) -> None:
    """Make a server read its settings and clients again."""
    with server.awaiting("ready"):
        server.process.send_signal(signal.SIGHUP)


def test_rights_hold_and_change_while_the_server_runs(both: Organisations, served: ServerProcess) -> None:
    fingerprint = read_identity(both.client.home / "config" / "hybridface").fingerprint
    own = both.folder / "clients" / "bank.toml"
    with changed(own, own.read_bytes()):
        both.allow(fingerprint, "verify")
        reload(served)
        assert "the right to enroll in staff" in refused(both, "enroll", "--id", "x", "a.png", "--aligned")
        both.server.done("server", "deny", str(both.folder), "bank")
        reload(served)
        assert "does not know this side's key" in refused(both, "ping")
    reload(served)
    assert verified(both)


STRANGERS = {
    "plain HTTP": 'socket.create_connection(ADDRESS).sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")',
    "random bytes": "import os; s = socket.create_connection(ADDRESS); s.sendall(os.urandom(100000))",
    "one byte a second": """
s = socket.create_connection(ADDRESS)
for byte in b"\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc\\x03\\x03" * 3:
    s.sendall(bytes([byte])); time.sleep(1)
""",
    "500 connections that say nothing": """
import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
held = [socket.create_connection(ADDRESS, 5) for _ in range(500)]
print("held", flush=True); sys.stdin.read()
""",
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_do_not_keep_clients_out(both: Organisations, served: ServerProcess, kind: str) -> None:
    stranger = in_client(both, STRANGERS[kind])
    try:
        if kind.startswith("500"):
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == "held\n"
        both.client.done("ping", *SERVER)
        assert verified(both)
    finally:
        stranger.kill()
        stranger.communicate()
    assert served.process.poll() is None


def test_a_busy_server_says_so_at_once(both: Organisations, served: ServerProcess) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(session(both, served))
        assert "it is busy with 3 sessions" in refused(both, "verify", "a.png", "same.png", "--aligned")
        assert both.client.done("ping", *SERVER)["busy"]
    await_no_session(served)
    assert verified(both)


@pytest.mark.parametrize("after", [0.0, 1.0, 3.0])
def test_a_link_that_goes_down_ends_the_session_on_both_sides(
    both: Organisations, served: ServerProcess, after: float
) -> None:
    with session(both, served) as client:
        time.sleep(after)
        both.link("down")
        try:
            began = time.monotonic()
            _, errors = client.communicate(timeout=END_SECONDS + 10)
            await_no_session(served)
            assert time.monotonic() - began < END_SECONDS
        finally:
            both.link("up")
    lines = lines_of(errors)
    assert len(lines) == 1, errors
    assert "heard nothing from server" in lines[0] or "connection" in lines[0]
    assert client.returncode == 2
    assert verified(both)


def test_a_link_that_comes_back_in_time_disturbs_nothing(both: Organisations, served: ServerProcess) -> None:
    with served.awaiting("session opened"):
        client = both.client.start("prepare", "--count", "5", "--json", *SERVER)
    both.link("down")
    time.sleep(3)
    both.link("up")
    output, errors = client.communicate(timeout=120)
    assert client.returncode == 0, errors
    assert json.loads(output)["kept"] == 5


def test_a_client_that_is_killed_leaves_nothing(both: Organisations, served: ServerProcess) -> None:
    with session(both, served) as client:
        client.kill()
        client.wait()
        await_no_session(served)
    assert verified(both)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_session_that_is_killed_touches_no_other(
    both: Organisations, served: ServerProcess, number: signal.Signals
) -> None:
    with session(both, served) as first:
        (killed,) = sessions_of(served)
        with session(both, served) as second:
            killed.send_signal(number)
            _, errors = first.communicate(timeout=END_SECONDS)
            assert (first.returncode, len(lines_of(errors))) == (2, 1), errors
            assert "the connection" in errors
            assert second.poll() is None
            assert len(sessions_of(served)) == 1
    await_no_session(served)
    assert verified(both)


def test_a_door_that_is_killed_is_replaced(both: Organisations, served: ServerProcess) -> None:
    with session(both, served) as client, served.awaiting("ready"):
        (door,) = psutil.Process(served.process.pid).children()
        door.kill()
        _, errors = client.communicate(timeout=END_SECONDS)
        assert (client.returncode, len(lines_of(errors))) == (2, 1), errors
    assert verified(both)


def test_a_reload_disturbs_no_session(both: Organisations, served: ServerProcess) -> None:
    with served.awaiting("session opened"):
        client = both.client.start("prepare", "--count", "20", "--json", *SERVER)
    both.server.done("server", "renew", str(both.folder))
    with served.awaiting("ready"):
        served.process.send_signal(signal.SIGHUP)
    assert verified(both)
    output, errors = client.communicate(timeout=120)
    assert client.returncode == 0, errors
    assert json.loads(output)["kept"] == 20


def test_settings_that_cannot_be_used_change_nothing(both: Organisations, served: ServerProcess) -> None:
    settings = both.folder / "server.toml"
    with changed(settings, settings.read_bytes() + b"\n[other]\n"):
        with served.awaiting("reload"):
            served.process.send_signal(signal.SIGHUP)
        assert "unknown key" in served.last("reload")["why"]
        assert verified(both)
        second = both.server.run("serve", str(settings))
        assert (second.returncode, len(second.stderr.splitlines())) == (2, 1)


def test_a_session_that_cannot_be_logged_is_not_served(both: Organisations, served: ServerProcess) -> None:
    log = both.folder / "audit.jsonl"
    held = log.rename(log.with_suffix(".held"))
    log.mkdir()
    try:
        assert "it cannot log this session" in refused(both, "verify", "a.png", "same.png", "--aligned")
    finally:
        log.rmdir()
        held.rename(log)
    assert verified(both)


PROXY = """
import threading
pump = lambda a, b: [b.sendall(data) for data in iter(lambda: a.recv(16384), b"")]
listener = socket.create_server(("127.0.0.1", 9000))
print("open", flush=True)
while True:
    a, _ = listener.accept(); b = socket.create_connection(ADDRESS)
    for ends in ((a, b), (b, a)): threading.Thread(target=pump, args=ends, daemon=True).start()
"""


def test_a_proxy_that_passes_the_connection_through(both: Organisations, served: ServerProcess) -> None:
    """As nginx and Envoy do in their TCP modes: it sees no content, and both sides still know each other."""
    proxy = in_client(both, PROXY)
    try:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "open\n"
        fingerprint = read_identity(both.folder).fingerprint
        both.client.done("client", "add", "127.0.0.1:9000", fingerprint, "--as", "proxy")
        answer = both.client.done("verify", "a.png", "same.png", "--aligned", "--server", "proxy")
        assert answer["match"]
    finally:
        proxy.kill()
        proxy.communicate()
