"""What the operator's programs ask the server, over HTTP on an address of its own: is it alive, is it ready, how much.

- `/healthz`: 200 while the supervisor lives.
- `/readyz`: 200 if the server accepts clients, else 503 with the reason in one word.
- `/metrics`: counters for Prometheus.

Nothing here tells about a client's photos, decisions or names. The address should be one that only the operator's own
programs reach: there is no authentication. A connection has 5 seconds for all of its request and answer.
"""

import socket
import threading
import time
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hybridface.errors import RunError
from hybridface.service.address import Address

__all__ = ["READY", "Metrics", "Operations"]

READY = "ready"
"""The state of a server that accepts clients."""

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_MOST_CONNECTIONS = 32
_CONNECTION_SECONDS = 5.0
"""How long a connection may last, however busy it is."""

_TICK_SECONDS = 0.5


class Metrics:
    """Counters of a server, in a registry of their own."""

    def __init__(self) -> None:
        self.state = "starting"
        self._registry = registry = CollectorRegistry()
        self._running = Gauge("hybridface_sessions_running", "Sessions that run now.", registry=registry)
        self._connections = Gauge("hybridface_connections", "Connections that have no session now.", registry=registry)
        self._sessions = Counter(
            "hybridface_sessions", "Sessions that have ended, by outcome.", ["outcome"], registry=registry
        )
        self._refusals = Counter(
            "hybridface_refusals",
            "Connections and sessions that were refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self._bytes = Counter("hybridface_bytes", "Bytes of sessions.", ["direction"], registry=registry)
        self._session_seconds = Histogram(
            "hybridface_session_seconds", "Duration of sessions.", buckets=_SECONDS, registry=registry
        )
        self._command_seconds = Histogram(
            "hybridface_command_seconds",
            "Duration of commands, by operation and outcome.",
            ["operation", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._prepared = Gauge(
            "hybridface_prepared_runs", "Prepared runs on the disk, by client.", ["client"], registry=registry
        )
        self._expires = Gauge(
            "hybridface_certificate_expires", "When the certificate expires, in seconds since 1970.", registry=registry
        )

    def session_opened(self) -> None:
        """Count a session that begins."""
        self._running.inc()

    def session_ended(self, outcome: str, bytes_in: int, bytes_out: int, seconds: float) -> None:
        """Count a session that has ended."""
        self._running.dec()
        self._sessions.labels(outcome).inc()
        self._bytes.labels("in").inc(bytes_in)
        self._bytes.labels("out").inc(bytes_out)
        self._session_seconds.observe(seconds)

    def command(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a command of a session."""
        self._command_seconds.labels(operation, outcome).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a connection or a session that was refused."""
        self._refusals.labels(reason).inc()

    def connections(self, count: int) -> None:
        """Say how many connections have no session."""
        self._connections.set(count)

    def prepared(self, client: str, count: int) -> None:
        """Say how many prepared runs a client has."""
        self._prepared.labels(client).set(count)

    def certificate_expires(self, when: datetime) -> None:
        """Say when the certificate expires."""
        self._expires.set(when.timestamp())

    def set_state(self, state: str) -> None:
        """Say whether the server is ready, in one word."""
        self.state = state

    def text(self) -> bytes:
        """Return all counters in Prometheus' format."""
        return bytes(generate_latest(self._registry))


class Operations:
    """The HTTP server; a context manager, which serves in threads.

    Args:
        address: to listen on.
        metrics: to serve.

    Raises:
        RunError: the address is taken.
    """

    def __init__(self, address: Address, metrics: Metrics) -> None:
        try:
            self._server = _Server(address, metrics)
        except OSError as error:
            raise RunError(f"cannot listen on {address} (operations): {error.strerror}") from error
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        work = self._server.serve_forever
        self._thread = threading.Thread(target=work, args=(_TICK_SECONDS,), name="operations", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    """An HTTP server with a bounded number of connections, each of which ends in time.

    Unlike the library's, it asks no name server for its own name.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, address: Address, metrics: Metrics) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((address.host, address.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; drop it if there are too many."""
        with self._lock:
            has_room = len(self._deadlines) < _MOST_CONNECTIONS
            if has_room:
                self._deadlines[request] = time.monotonic() + _CONNECTION_SECONDS
        if has_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """End a connection, however it went."""
        with self._lock:
            self._deadlines.pop(request, None)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that take too long. The server calls this twice a second."""
        self.end_connections(time.monotonic())

    def end_connections(self, before: float = float("inf")) -> None:
        """End all connections whose deadline was before a time: their threads read the end, and close them."""
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if deadline < before:
                    with suppress(OSError):  # the peer was quicker
                        connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that breaks."""


class _Handler(BaseHTTPRequestHandler):
    """Answer one request."""

    timeout = _CONNECTION_SECONDS
    server_version, sys_version = "hybridface", ""
    server: _Server

    def do_GET(self) -> None:
        """Answer, or say that there is no such page."""
        metrics = self.server.metrics
        match self.path.partition("?")[0]:
            case "/healthz":
                self._answer(200, b"ok\n")
            case "/readyz":
                state = metrics.state
                self._answer(200 if state == READY else 503, f"{state}\n".encode())
            case "/metrics":
                self._answer(200, metrics.text(), CONTENT_TYPE_LATEST)
            case _:
                self._answer(404, b"expected /healthz, /readyz or /metrics\n")

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every few seconds."""
