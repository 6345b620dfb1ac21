"""Two ends of a WebSocket connection in one process, without TLS: for tests of what is above TLS."""

import socket
import threading
from collections.abc import Callable

from parties.transport.network import NetworkTransport
from parties.transport.websocket import WebSocket

__all__ = ["PlainSocket", "at_once", "opened_pair", "transports"]


class PlainSocket(socket.socket):
    """A socket in place of one with TLS."""

    def do_handshake(self) -> None:
        """Do nothing: there is no TLS."""

    @classmethod
    def over(cls, plain: socket.socket) -> "PlainSocket":
        """Return the same connection; it does not block."""
        own = cls(plain.family, plain.type, plain.proto, plain.detach())
        own.setblocking(False)
        return own


def opened_pair() -> tuple[WebSocket, WebSocket]:
    """Return the client's and the server's end of an open connection."""
    here, there = map(PlainSocket.over, socket.socketpair())
    client, server = WebSocket(here, "server:1"), WebSocket(there)
    while not (client.is_open and server.is_open):
        client.step(0)
        server.step(0)
        assert not client.ended
        assert not server.ended
    return client, server


def transports(timeout: float = 10.0) -> tuple[NetworkTransport, NetworkTransport]:
    """Return the client's and the server's transport over an open connection."""
    client, server = opened_pair()
    return NetworkTransport(client, "server", timeout), NetworkTransport(server, "client", timeout)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Return the results of calls that run at the same time, each in a thread."""
    results: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
