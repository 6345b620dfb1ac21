"""The bulk transfer of `bench service`: `python -m hybridface.measure.cost.service_bulk SERVER CLIENT`, two identities.

This process sends, and one that it forks receives, over TLS and WebSocket on loopback.
"""

import os
import select
import socket
import sys
import time
from pathlib import Path

from parties.transport.identity import Identity, read_identity
from parties.transport.network import NetworkTransport, connect
from parties.transport.tls import Trust, client_context, server_context
from parties.transport.websocket import WebSocket
from protocols.errors import PeerLostError

__all__ = ["main"]

_MESSAGE_BYTES, _MESSAGES = 16 << 20, 32
_SECONDS = 60.0
_WARM = 4


def main(arguments: list[str]) -> int:
    """Measure, and print MB a second."""
    own, other = (read_identity(Path(folder)) for folder in arguments)
    listener = socket.create_server(("127.0.0.1", 0))
    receiver = os.fork()
    if receiver == 0:
        try:
            _receive(listener, own, other)
        finally:
            os._exit(0)
    context = client_context(other, Trust((own.fingerprint,)))
    transport = NetworkTransport(
        connect("127.0.0.1", listener.getsockname()[1], context, _SECONDS), "receiver", _SECONDS
    )
    payload = bytes(_MESSAGE_BYTES)
    for _ in range(_WARM):
        transport.send(payload)
    transport.receive(1)
    began = time.perf_counter()
    for _ in range(_MESSAGES):
        transport.send(payload)
    transport.receive(1)
    seconds = time.perf_counter() - began
    transport.close()
    os.waitpid(receiver, 0)
    sys.stdout.write(f"{_MESSAGES * _MESSAGE_BYTES / seconds / 1e6}\n")
    return 0


def _receive(listener: socket.socket, own: Identity, other: Identity) -> None:
    plain, _ = listener.accept()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setblocking(False)
    context = server_context(own, Trust((other.fingerprint,)))
    websocket = WebSocket(context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False))
    while not websocket.is_open:
        websocket.step(0)
        if websocket.ended:
            raise PeerLostError(websocket.ended)
        if not websocket.is_open:
            poller = select.poll()
            poller.register(websocket.fileno, websocket.events)
            poller.poll(1000)
    transport = NetworkTransport(websocket, "sender", _SECONDS)
    for count in (_WARM, _MESSAGES):
        for _ in range(count):
            transport.receive(_MESSAGE_BYTES)
        transport.send(b"!")
    transport.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
