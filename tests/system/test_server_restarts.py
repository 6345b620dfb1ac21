"""Two organisations: servers that start, stop, die and change, and what lasts beyond them."""

import json
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from parties.transport.identity import create_identity
from support.certificates import DAY
from support.organisations import (
    END_SECONDS,
    SERVER,
    Organisations,
    await_no_session,
    certificate,
    changed,
    full,
    lines_of,
    refused,
    session,
    verified,
)

pytestmark = pytest.mark.slow


def test_prepared_runs_last_beyond_the_server(both: Organisations) -> None:
    with both.serving():
        both.client.done("prepare", "--count", "2", *SERVER)
    kept = list((both.folder / "prepared").rglob("*"))
    with both.serving():
        assert verified(both)
    assert sum(path.is_file() for path in both.folder.joinpath("prepared").rglob("*")) < len(kept)


def test_a_servers_certificate_of_another_year_is_refused(both: Organisations) -> None:
    for begins, expires, why in ((-800 * DAY, -DAY, "has expired"), (365 * DAY, 800 * DAY, "is not valid yet")):
        with certificate(both.folder, begins, expires), both.serving():
            assert why in refused(both, "ping")


def test_another_server_at_the_address_is_refused(both: Organisations, tmp_path: Path) -> None:
    other = create_identity(tmp_path / "other", "match.example.org")
    with ExitStack() as stack:
        for name in ("key.pem", "certificate.pem"):
            stack.enter_context(changed(both.folder / name, (other.folder / name).read_bytes()))
        with both.serving():
            assert "the peer's key is unknown here" in refused(both, "verify", "a.png", "same.png", "--aligned")


def test_a_changed_network_is_refused_until_told(both: Organisations) -> None:
    settings = both.folder / "server.toml"
    with both.serving():
        assert verified(both)
    stricter = settings.read_bytes().replace(b"[models.tiny-test]", b"[models.tiny-test]\nthreshold = 0.55\n#")
    with changed(settings, stricter), both.serving():
        assert "expected the network tiny-test that was pinned" in refused(
            both, "verify", "a.png", "same.png", "--aligned"
        )
        both.client.done("client", "trust", "match", "--model", "tiny-test")
        assert verified(both)
    both.client.done("client", "trust", "match", "--model", "tiny-test")


def test_a_supervisor_that_is_killed_takes_all_with_it(both: Organisations) -> None:
    with both.serving() as server, session(both, server) as client:
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        _, errors = client.communicate(timeout=END_SECONDS)
        assert (client.returncode, len(lines_of(errors))) == (2, 1), errors
        assert psutil.wait_procs(family, timeout=END_SECONDS)[1] == []
    with both.serving():
        assert verified(both)


def test_a_server_that_is_to_stop_lets_sessions_finish(both: Organisations) -> None:
    with both.serving() as server:
        with server.awaiting("session opened"):
            client = both.client.start("prepare", "--count", "20", "--json", *SERVER)
        with server.awaiting("draining"):
            server.process.terminate()
        refusal = both.client.run("ping", *SERVER)
        assert refusal.returncode == 2
        output, errors = client.communicate(timeout=120)
        assert client.returncode == 0, errors
        assert json.loads(output)["kept"] == 20
        assert server.process.wait(END_SECONDS) == 0


def test_a_server_that_must_stop_says_so_to_its_clients(both: Organisations) -> None:
    settings = both.folder / "server.toml"
    with changed(settings, b"drain_seconds = 1\n" + settings.read_bytes()):
        with both.serving() as server, session(both, server) as client:
            server.process.terminate()
            _, errors = client.communicate(timeout=END_SECONDS)
            assert (client.returncode, len(lines_of(errors))) == (2, 1), errors
            assert "the server is being stopped" in errors
            assert server.process.wait(END_SECONDS) == 0


def test_nothing_is_left_after_many_sessions(both: Organisations) -> None:
    with both.serving() as server:
        (door,) = psutil.Process(server.process.pid).children()
        assert verified(both)
        await_no_session(server)
        before = door.num_fds(), door.num_threads(), psutil.Process(server.process.pid).num_fds()
        for _ in range(5):
            assert verified(both)
        await_no_session(server)
        assert (door.num_fds(), door.num_threads(), psutil.Process(server.process.pid).num_fds()) == before


def test_prepared_runs_that_find_no_room(both: Organisations) -> None:
    with full(both.folder / "prepared"), both.serving():
        assert "it could not write them" in refused(both, "prepare", "--count", "1")
        assert verified(both)
