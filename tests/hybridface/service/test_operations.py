"""The operations endpoint: what it answers, and that no connection holds it up."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hybridface.errors import RunError
from hybridface.service import operations
from hybridface.service.address import Address
from hybridface.service.operations import READY, Metrics, Operations

GUARD_SECONDS = 20.0
LOCAL = "127.0.0.1"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def served(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operations]:
    monkeypatch.setattr(operations, "_TICK_SECONDS", 0.02)
    with Operations(Address(LOCAL, 0), metrics) as server:
        yield server


def asked(server: Operations, path: str, method: str = "GET", host: str = LOCAL) -> tuple[int, bytes]:
    connection = HTTPConnection(host, server.port, timeout=GUARD_SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def connected(server: Operations) -> socket.socket:
    return socket.create_connection((LOCAL, server.port), GUARD_SECONDS)


def expect_nobody(server: Operations) -> None:
    """Wait until the server has forgotten all connections."""
    deadline = time.monotonic() + GUARD_SECONDS
    while server._server._deadlines:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def samples(metrics: Metrics) -> dict[str, float]:
    """Return the value of every sample, by its name and labels as they are written."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_server_lives_whatever_its_state(served: Operations, metrics: Metrics) -> None:
    for state in ("starting", READY, "draining"):
        metrics.set_state(state)
        assert asked(served, "/healthz") == (200, b"ok\n")


def test_it_is_ready_only_while_it_accepts_clients(served: Operations, metrics: Metrics) -> None:
    assert asked(served, "/readyz") == (503, b"starting\n")
    metrics.set_state(READY)
    assert asked(served, "/readyz") == (200, b"ready\n")
    assert asked(served, "/readyz?verbose=1") == (200, b"ready\n")
    metrics.set_state("draining")
    assert asked(served, "/readyz") == (503, b"draining\n")


@pytest.mark.parametrize("path", ["/", "/healthz/", "/metrics.json", "/../etc/passwd", "*"])
def test_there_are_no_other_pages(served: Operations, path: str) -> None:
    assert asked(served, path) == (404, b"expected /healthz, /readyz or /metrics\n")


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/x", 404)])
def test_the_head_of_a_page_has_no_body(served: Operations, path: str, status: int) -> None:
    assert asked(served, path, "HEAD") == (status, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_other_methods_are_refused(served: Operations, method: str) -> None:
    assert asked(served, "/healthz", method)[0] == 501


def test_the_server_tells_nothing_of_its_libraries(served: Operations) -> None:
    for request in (b"GET /healthz HTTP/1.1\r\n\r\n", b"BREW /healthz HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"):
        with connected(served) as connection:
            connection.sendall(request)
            answer = connection.makefile("rb").read()
        assert answer
        assert not re.search(rb"python|BaseHTTP", answer, re.IGNORECASE)


def test_the_counters_say_what_happened(metrics: Metrics) -> None:
    expires = datetime(2030, 1, 2, tzinfo=UTC)
    for _ in range(3):
        metrics.session_opened()
    metrics.session_ended("ended", 100, 7, 0.5)
    metrics.session_ended("lost", 1, 2, 50.0)
    metrics.command("gallery-verify", "done", 0.2)
    metrics.command("gallery-verify", "refused", 0.001)
    metrics.refused("busy")
    metrics.refused("busy")
    metrics.refused("tls")
    metrics.connections(5)
    metrics.prepared("door-1", 4)
    metrics.prepared("door-1", 3)
    metrics.certificate_expires(expires)
    found = samples(metrics)
    expected = {
        "hybridface_sessions_running": 1,
        "hybridface_sessions_total{outcome=ended}": 1,
        "hybridface_sessions_total{outcome=lost}": 1,
        "hybridface_refusals_total{reason=busy}": 2,
        "hybridface_refusals_total{reason=tls}": 1,
        "hybridface_bytes_total{direction=in}": 101,
        "hybridface_bytes_total{direction=out}": 9,
        "hybridface_session_seconds_count": 2,
        "hybridface_session_seconds_sum": 50.5,
        "hybridface_session_seconds_bucket{le=1.0}": 1,
        "hybridface_command_seconds_count{operation=gallery-verify,outcome=done}": 1,
        "hybridface_command_seconds_count{operation=gallery-verify,outcome=refused}": 1,
        "hybridface_connections": 5,
        "hybridface_prepared_runs{client=door-1}": 3,
        "hybridface_certificate_expires": expires.timestamp(),
    }
    assert {name: found[name] for name in expected} == expected


def test_prometheus_gets_the_counters(served: Operations, metrics: Metrics) -> None:
    metrics.session_opened()
    status, body = asked(served, "/metrics")
    assert status == 200
    assert b"\nhybridface_sessions_running 1.0\n" in body


def test_servers_share_no_counters(metrics: Metrics) -> None:
    metrics.session_opened()
    assert samples(Metrics())["hybridface_sessions_running"] == 0


def test_an_address_that_is_taken(served: Operations, metrics: Metrics) -> None:
    with pytest.raises(RunError, match=rf"^cannot listen on 127.0.0.1:{served.port} \(operations\): Address already"):
        Operations(Address(LOCAL, served.port), metrics)


def test_an_address_of_the_newer_kind(metrics: Metrics) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:  # a machine without it
        with pytest.raises(RunError, match=r"^cannot listen on \[::1\]:0 \(operations\): "):
            Operations(Address("::1", 0), metrics)
        return
    with Operations(Address("::1", 0), metrics) as server:
        assert asked(server, "/healthz", host="::1") == (200, b"ok\n")


def test_the_end_leaves_nothing_behind(metrics: Metrics) -> None:
    with Operations(Address(LOCAL, 0), metrics) as server, connected(server) as silent:
        silent.sendall(b"GET /healthz")
        assert asked(server, "/healthz")[0] == 200
    silent.close()
    with Operations(Address(LOCAL, server.port), metrics) as again:
        assert asked(again, "/healthz")[0] == 200
    assert not again._thread.is_alive()


@pytest.mark.parametrize("drip", [b"", b"GET /healthz HTTP/1.1\r\nX: "])
def test_a_connection_that_takes_too_long_is_ended(
    served: Operations, monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    """Also one that goes on sending: a byte now and then is not enough to stay."""
    monkeypatch.setattr(operations, "_CONNECTION_SECONDS", 0.2)
    with connected(served) as slow:
        slow.sendall(drip)
        ended, limit = threading.Event(), time.monotonic() + GUARD_SECONDS

        def send() -> None:
            while drip and not ended.wait(0.02):
                try:
                    slow.sendall(b"x")
                except OSError:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        try:
            received = slow.recv(1)
        except ConnectionResetError:
            received = b""
        ended.set()
        sender.join()
    assert received == b""
    assert time.monotonic() < limit
    expect_nobody(served)
    assert asked(served, "/healthz")[0] == 200


def test_too_many_connections_are_dropped_and_the_others_answered(
    served: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_MOST_CONNECTIONS", 2)
    held = [connected(served) for _ in range(2)]
    with connected(served) as one_more:
        assert one_more.recv(1) == b""
    for one in held:
        one.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200" in one.makefile("rb").readline()
        one.close()
    expect_nobody(served)
    assert asked(served, "/healthz")[0] == 200
