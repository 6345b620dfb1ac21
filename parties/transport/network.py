"""A channel's transport between two organisations: a WebSocket over TLS, with deadlines and signs of life.

The thread that computes sends and receives by itself. What the socket does not take at once, a second thread sends
later, so that both parties may send at the same time. That thread also sends a sign of life every 5 seconds. An end
that hears nothing for 20 seconds gives up, whatever its own deadline is: the link is down, or the peer has stopped.
"""

import select
import socket
import ssl
import threading
import time
from contextlib import suppress

from parties.transport.websocket import Connection, WebSocket
from protocols.errors import PeerLostError, ProtocolError

__all__ = ["MAX_TEXT_BYTES", "SILENCE_SECONDS", "NetworkTransport", "connect"]

SILENCE_SECONDS = 20.0
"""How long an end waits for any sign of life."""

MAX_TEXT_BYTES = 1 << 20
"""Bytes of the largest text message."""

_PING_SECONDS = 5.0
_TICK_SECONDS = 1.0
_READ_AHEAD_BYTES = 4 << 20
_LONGEST_CLOSE_SECONDS = 5.0
_LOST_SECONDS = 2.0
_MS = 1000


class NetworkTransport:
    """One end of a channel over the network; see `protocols.channel.Transport`.

    Args:
        websocket: the connection; open.
        peer: the peer's name, for error messages.
        timeout: seconds to wait for a message.
        longest: seconds that a call may wait in any case, whatever it asks for.
    """

    def __init__(self, websocket: WebSocket, peer: str, timeout: float, *, longest: float = float("inf")) -> None:
        self._websocket, self._peer, self.timeout, self._longest = websocket, peer, timeout, longest
        self._lock = threading.Lock()
        self._receiving = threading.Lock()
        self._wake, self._sent = threading.Event(), threading.Condition(self._lock)
        self._heard_bytes, self._heard_at, self._pinged_at = websocket.heard, time.monotonic(), time.monotonic()
        self._is_closed = False
        self._keeper = threading.Thread(target=self._keep, name=f"network to {peer}", daemon=True)
        self._keeper.start()

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        """Send one message. With a `timeout`, wait until the system has taken it all."""
        self._send(payload, is_text=False)
        if timeout is not None:
            self._flush(timeout)

    def send_text(self, text: str) -> None:
        """Send one text message."""
        self._send(text.encode(), is_text=True)

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes | memoryview:
        """Receive one message.

        Raises:
            ProtocolError: the message is larger than `max_bytes`, or is text.
            PeerLostError: the connection has ended, or nothing came in time.
        """
        return self._receive(max_bytes, self.timeout if timeout is None else timeout, is_text=False)

    def receive_text(self, timeout: float | None = None) -> str:
        """Receive one text message of at most 1 MiB; errors as for `receive`."""
        received = self._receive(MAX_TEXT_BYTES, self.timeout if timeout is None else timeout, is_text=True)
        try:
            return bytes(received).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"expected text from {self._peer}, got bytes that are no UTF-8") from error

    def exchange(self, payload: bytes, max_bytes: int) -> bytes | memoryview:
        """Send and receive at once."""
        self.send(payload)
        return self.receive(max_bytes)

    def close(self) -> None:
        """Send what is left, end the connection, and close the socket. Never raises; takes 5 seconds at most."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake.set()
        self._keeper.join()
        deadline = time.monotonic() + _LONGEST_CLOSE_SECONDS
        self._websocket.begin_close()
        self._until_written(deadline)
        self._websocket.end_sending()
        self._until_ended(min(deadline, time.monotonic() + _LOST_SECONDS))
        self._websocket.close()

    def why_ended(self) -> Exception | None:
        """Return the exception of the system or of TLS that ended the connection, if one did."""
        return self._websocket.error

    def security(self) -> tuple[bytes, str]:
        """Return the peer's certificate (DER), which TLS has verified, and how the connection is encrypted."""
        return self._websocket.security()

    def _send(self, payload: bytes, *, is_text: bool) -> None:
        with self._lock:
            self._check_alive()
            self._websocket.send(payload, is_text)
            self._websocket.write()
            left = self._websocket.is_writing
        if left:
            self._wake.set()

    def _receive(self, max_bytes: int, timeout: float, *, is_text: bool) -> bytes | memoryview:
        timeout = min(timeout, self._longest)
        deadline = time.monotonic() + timeout
        with self._receiving:
            while True:
                with self._lock:
                    more = self._step(max_bytes)
                    if self._websocket.messages:
                        message = self._websocket.messages.popleft()
                        break
                    self._check_alive()
                    events, number = self._websocket.events, self._websocket.fileno
                if more:
                    continue
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PeerLostError(f"expected a message from {self._peer} within {timeout:g} s, got none")
                _poll(number, events, min(left, _TICK_SECONDS))
        if len(message.payload) > max_bytes:
            raise ProtocolError(f"expected at most {max_bytes} bytes from {self._peer}, got {len(message.payload)}")
        if message.is_text is not is_text:
            raise ProtocolError(f"expected a message of the protocol from {self._peer}, got one of another kind")
        return memoryview(message.payload)

    def _step(self, largest: int | None) -> bool:
        """Read and write what is possible now, under the lock."""
        try:
            more = self._websocket.step(largest)
        except ProtocolError as error:
            raise ProtocolError(f"{self._peer}: {error}") from None
        now = time.monotonic()
        if self._websocket.heard != self._heard_bytes:
            self._heard_bytes, self._heard_at = self._websocket.heard, now
        return more

    def _check_alive(self) -> None:
        """Raise `PeerLostError` if the connection has ended, or the peer has been silent for too long."""
        if self._is_closed:
            raise PeerLostError(f"expected an open connection to {self._peer}, but it is closed")
        if self._websocket.ended:
            raise PeerLostError(f"expected a message from {self._peer}, but {self._websocket.ended}")
        if self._is_silent():
            self._step(None)  # this process itself may have been stopped, and the peer's signs of life may wait
        if self._is_silent():
            raise PeerLostError(
                f"heard nothing from {self._peer} for {SILENCE_SECONDS:g} s: the link is down, or it has stopped"
            )

    def _is_silent(self) -> bool:
        return time.monotonic() > self._heard_at + SILENCE_SECONDS

    def _flush(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._sent:
            while self._websocket.is_writing:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise PeerLostError(f"expected {self._peer} to take a message within {timeout:g} s, it did not")
                self._sent.wait(min(_TICK_SECONDS, max(0.0, deadline - time.monotonic())))

    def _keep(self) -> None:
        """Send what is left and signs of life, and read while nobody else does, until the connection ends."""
        while not self._is_closed:
            with self._lock:
                if self._websocket.ended:
                    self._sent.notify_all()
                    return
                self._look_after()
                busy, number = self._websocket.is_writing, self._websocket.fileno
                if not busy:
                    self._sent.notify_all()
            if busy:
                _poll(number, select.POLLOUT, _TICK_SECONDS)
            else:
                self._wake.wait(_TICK_SECONDS)
                self._wake.clear()

    def _look_after(self) -> None:
        self._websocket.write()
        now = time.monotonic()
        if now > self._pinged_at + _PING_SECONDS:
            self._websocket.ping()
            self._websocket.write()
            self._pinged_at = now
        if self._receiving.locked():
            return
        if self._websocket.buffered < _READ_AHEAD_BYTES:
            self._step(None)
        else:  # nothing is read, so nothing can be heard
            self._heard_at = now

    def _until_written(self, deadline: float) -> None:
        while self._websocket.is_writing and not self._websocket.ended and time.monotonic() < deadline:
            _poll(self._websocket.fileno, select.POLLOUT, 0.1)
            self._websocket.write()

    def _until_ended(self, deadline: float) -> None:
        """Read until the peer ends the connection too, so that it gets what was sent."""
        while not self._websocket.ended and (left := deadline - time.monotonic()) > 0:
            self._websocket.messages.clear()
            with suppress(ProtocolError):
                if not self._websocket.step():
                    _poll(self._websocket.fileno, select.POLLIN, left)


def connect(host: str, port: int, context: ssl.SSLContext, timeout: float) -> WebSocket:
    """Connect to a server, and return the connection when it is encrypted and open.

    Args:
        context: TLS's settings; they say whom to trust (see `tls`).
        timeout: seconds for everything.

    Raises:
        PeerLostError: nobody answers at that address in time, or no hybridface server.
        OSError: TLS refuses the peer, or the peer this side.
    """
    deadline = time.monotonic() + timeout
    try:
        plain = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise PeerLostError(
            f"{host}:{port}: {error.strerror or 'no answer'}; check the address, and that it runs"
        ) from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setblocking(False)
        secured: Connection = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    except OSError:
        plain.close()
        raise
    websocket = WebSocket(secured, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    try:
        while not websocket.is_open:
            websocket.step(0)
            left = deadline - time.monotonic()
            if websocket.error:
                raise websocket.error
            if websocket.ended or left <= 0:
                raise PeerLostError(
                    f"{host}:{port}: {websocket.ended or f'expected an answer within {timeout:g} s, got none'}"
                )
            if not websocket.is_open:
                _poll(websocket.fileno, websocket.events, left)
    except BaseException:
        websocket.close()
        raise
    return websocket


def _poll(number: int, events: int, seconds: float) -> None:
    """Wait until a socket is ready, or the time is over."""
    poller = select.poll()
    poller.register(number, events)
    poller.poll(seconds * _MS)
