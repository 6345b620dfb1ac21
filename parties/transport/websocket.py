"""A WebSocket connection over TLS, on a socket that never blocks.

TLS comes from Python's `ssl`, framing from `websockets`. This module moves bytes between the two, without threads and
without waiting. So one process can serve many connections, and can hand one to a process that it forks.

A message is text (a JSON object, before a session) or binary (a message of a `Channel`). It travels in frames of at
most 1 MiB, since proxies refuse larger ones. A frame that announces more than that ends the connection before its
content is read.
"""

import select
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from protocols.errors import ProtocolError

__all__ = ["PATH", "PIECE_BYTES", "Connection", "Message", "WebSocket"]

PIECE_BYTES = 1 << 20
"""The largest frame. A longer message travels in several frames."""

PATH = "/hybridface"
"""The path that a client asks for."""

_READ_BYTES = 1 << 18
_SENT_AT_ONCE = 1 << 18
_ORDERLY = {CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD}


class Connection(Protocol):
    """A connected socket that does not block: `ssl.SSLSocket`."""

    def do_handshake(self) -> None: ...
    def recv_into(self, buffer: memoryview) -> int: ...
    def send(self, data: memoryview) -> int: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Message:
    """A whole message.

    Args:
        is_text: whether the message is text.
        payload: its bytes.
    """

    is_text: bool
    payload: bytes | bytearray


class WebSocket:
    """One end of a connection. `step` does what can be done without waiting.

    Args:
        connection: a socket with TLS that does not block, before TLS's handshake.
        host: at the client's end, the host and port that the client asks for; None at the server's end.

    Attributes:
        is_open: whether messages may be sent.
        ended: why the connection has ended; "" while it has not.
        error: the exception that ended it, if one did.
        messages: the messages that have come and were not taken.
    """

    def __init__(self, connection: Connection, host: str | None = None) -> None:
        self._connection = connection
        self._is_client = host is not None
        limits = None, PIECE_BYTES
        self._protocol: ClientProtocol | ServerProtocol
        if host is None:
            self._protocol = ServerProtocol(max_size=limits)
        else:
            self._protocol = ClientProtocol(parse_uri(f"wss://{host}{PATH}"), max_size=limits)
        self._is_secure, self.is_open = False, False
        self.ended = ""
        self.error: Exception | None = None
        self.messages: deque[Message] = deque()
        self._pieces: list[bytes | bytearray] = []
        self._first = Opcode.BINARY
        self._out: deque[memoryview] = deque()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._wants_write = self._is_at_end = False
        self.heard = 0
        """Bytes that have come so far."""

    @property
    def fileno(self) -> int:
        """The socket's number."""
        return self._connection.fileno()

    @property
    def is_writing(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._out) or self._wants_write

    @property
    def buffered(self) -> int:
        """Bytes of messages that have come and were not taken."""
        return sum(len(one.payload) for one in self.messages) + sum(map(len, self._pieces))

    @property
    def events(self) -> int:
        """What to wait for with `select.poll` before the next step."""
        return (0 if self.ended else select.POLLIN) | (select.POLLOUT if self.is_writing else 0)

    def send(self, payload: bytes | memoryview, is_text: bool = False) -> None:
        """Queue a message. `step` or `write` sends it."""
        if not self.is_open or self.ended:
            return
        data = memoryview(payload)
        for start in range(0, max(1, len(data)), PIECE_BYTES):
            piece, is_last = data[start : start + PIECE_BYTES], start + PIECE_BYTES >= len(data)
            if start:
                self._protocol.send_continuation(piece, is_last)
            elif is_text:
                self._protocol.send_text(piece, is_last)
            else:
                self._protocol.send_binary(piece, is_last)
        self._collect()

    def ping(self) -> None:
        """Queue a sign of life."""
        if self.is_open and not self.ended and not self._out:
            self._protocol.send_ping(b"")
            self._collect()

    def security(self) -> tuple[bytes, str]:
        """Return the peer's certificate (DER), and TLS's version and cipher; nothing without TLS."""
        if not isinstance(self._connection, ssl.SSLSocket):
            return b"", ""
        cipher = self._connection.cipher()
        return self._connection.getpeercert(True) or b"", f"{self._connection.version()} {cipher[0] if cipher else ''}"

    def step(self, largest: int | None = None) -> bool:
        """Do what can be done without waiting; return whether there may be more to read.

        Args:
            largest: bytes of the next message, at most; None for any. It does not bound the messages after that one.

        Raises:
            ProtocolError: a message is larger.
        """
        if self.ended or not self._secured():
            return False
        self.write()
        more = self._read()
        self._take(largest)
        self.write()
        return more and not self.ended

    def write(self) -> None:
        """Send as much as the socket takes."""
        self._wants_write = False
        try:
            while self._out:
                sent = self._connection.send(self._out[0][:_SENT_AT_ONCE])
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError as error:
            self._read()  # TLS's last words may say why
            self._out.clear()  # nobody takes it any more
            self._fail("the connection broke", error)

    def begin_close(self) -> None:
        """Queue the end of the connection."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._collect()

    def end_sending(self) -> None:
        """Tell the system that nothing more will be sent."""
        try:
            socket.socket.shutdown(self._connection, socket.SHUT_WR)  # type: ignore[arg-type]  # TLS must go on reading
        except OSError:
            return

    def close(self) -> None:
        """Close the socket, and say nothing to the peer."""
        self.ended = self.ended or "closed"
        self._connection.close()

    def _secured(self) -> bool:
        """Go on with TLS's handshake; return whether it is complete."""
        if self._is_secure:
            return True
        self._wants_write = False
        try:
            self._connection.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return False
        except OSError as error:
            self._fail("no encrypted connection", error)
            return False
        self._is_secure = True
        if isinstance(self._protocol, ClientProtocol):
            self._protocol.send_request(self._protocol.connect())
            self._collect()
        return True

    def _read(self) -> bool:
        """Read what has come; return whether there may be more."""
        filled = 0
        try:
            while filled < len(self._buffer):
                count = self._connection.recv_into(self._buffer[filled:])
                if not count:
                    self._feed(filled)
                    self._protocol.receive_eof()
                    self._is_at_end = True
                    return False
                filled += count
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            self._feed(filled)
            return False
        except OSError as error:
            self._feed(filled)
            self._fail("the connection broke", error)
            return False
        self._feed(filled)
        return True

    def _feed(self, filled: int) -> None:
        if filled:
            self.heard += filled
            self._protocol.receive_data(self._buffer[:filled])  # type: ignore[arg-type]  # it copies any buffer

    def _take(self, largest: int | None) -> None:
        """Take the frames that have come."""
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take_frame(event, largest)
            elif isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Response):
                self._open()
        self._collect()
        if self._protocol.state is State.OPEN and not self.is_open:
            self._open()
        if self._protocol.close_expected():
            self._fail(self._why_closed())
        elif self._is_at_end:
            self._fail("the connection was closed")

    def _answer(self, request: Request) -> None:
        """Answer a client's request at the server's end."""
        if isinstance(self._protocol, ServerProtocol):
            if request.path == PATH:
                response = self._protocol.accept(request)
            else:
                response = self._protocol.reject(404, "This port serves hybridface clients only.\n")
            self._protocol.send_response(response)

    def _open(self) -> None:
        if self._protocol.handshake_exc is None:
            self.is_open = True
            return
        self._fail("the peer is no hybridface server", self._protocol.handshake_exc)

    def _take_frame(self, frame: Frame, largest: int | None) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._first = frame.opcode
        self._pieces.append(frame.data)  # type: ignore[arg-type]
        if largest is not None and not self.messages and sum(map(len, self._pieces)) > largest:
            raise ProtocolError(f"expected at most {largest} bytes, got more")
        if frame.fin:
            payload = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self.messages.append(Message(self._first is Opcode.TEXT, payload))
            self._pieces = []

    def _why_closed(self) -> str:
        """Return why the connection ends."""
        if not self.is_open:
            return f"the peer is no hybridface {'server' if self._is_client else 'client'}"
        received, sent = self._protocol.close_rcvd, self._protocol.close_sent
        code = received.code if received else sent.code if sent else CloseCode.ABNORMAL_CLOSURE
        if code in _ORDERLY:
            return "the peer has closed the connection"
        if code == CloseCode.MESSAGE_TOO_BIG:
            return f"a frame of more than {PIECE_BYTES} bytes came"
        return f"the connection was closed with status {int(code)}"

    def _collect(self) -> None:
        """Queue what the protocol wants to send."""
        self._out += [memoryview(data) for data in self._protocol.data_to_send() if data]

    def _fail(self, why: str, error: Exception | None = None) -> None:
        self.ended, self.error = self.ended or why, self.error or error
