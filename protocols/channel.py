"""Exchange framed, typed, versioned messages with one peer over a channel, which checks and counts them.

A message is a header and the raw array (see `frame`). The receiver always says what it expects. A message that is
truncated, oversized or mistyped, or that was lost, repeated or damaged on its way, ends the protocol with one
`ProtocolError`. The channel never interprets such a message, and it unpickles nothing. The transport below (MPI, or
queues in one process) only moves bytes, and gives up after a deadline.

A *round* is one or several messages in one direction: consecutive sends are one round, and so are consecutive receives.
An `exchange`, in both directions at once, is also one round. Both ends count the same number.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.document import Document, parsed
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.frame import VERSION, Direction, checksum_of_data, frame_size, is_error_report, printable, tag_of

__all__ = [
    "CLIENT",
    "IDLE_SECONDS",
    "SERVER",
    "VERSION",
    "Channel",
    "ChannelStatistics",
    "Transport",
    "printable",
    "send_to_all",
    "tag_of",
]

CLIENT, SERVER = 0, 1
"""The two parties of a computation on shares, as numbers."""

IDLE_SECONDS = 24 * 3600.0
"""How long the server and the dealer wait for the client's next command. A session may be idle, but not forever."""

_MAX_DROPPED_BYTES = 1 << 30
_MAX_DOCUMENT_BYTES = 1 << 20


class Transport(Protocol):
    """Moves whole byte strings to and from one peer, in order."""

    @property
    def timeout(self) -> float:
        """Seconds to wait for the peer, unless a call gives another number."""

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        """Send one message.

        Without a timeout, return before the peer takes the message, so that both parties may send at once. With a
        timeout, wait, and raise `PeerLostError` if the peer has not taken the message in time.
        """

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes | memoryview:
        """Receive one message. Raise `ProtocolError` above `max_bytes`, `PeerLostError` if none comes in time."""

    def exchange(self, payload: bytes, max_bytes: int) -> bytes | memoryview:
        """Send and receive at once."""

    def close(self) -> None:
        """Release the transport."""


@dataclass
class ChannelStatistics:
    """What went over a channel so far: bytes with headers, rounds, and seconds spent waiting for the peer."""

    bytes_sent: int = 0
    bytes_received: int = 0
    rounds: int = 0
    wait_seconds: float = 0.0


@dataclass
class Channel:
    """A counted, checked channel to one peer.

    Args:
        transport: moves the bytes.
        peer: the peer's name, for error messages.
    """

    transport: Transport
    peer: str
    statistics: ChannelStatistics = field(default_factory=ChannelStatistics)
    peer_failed: bool = False
    """Whether the peer has reported that it ends with an error."""
    _last_flight: str = ""
    _sent: Direction = field(default_factory=Direction)
    _received: Direction = field(default_factory=Direction)

    @property
    def timeout(self) -> float:
        """Seconds to wait for a message, unless a call gives another number."""
        return self.transport.timeout

    def send(self, label: str, array: NDArray[Any]) -> None:
        """Send an array (uint8, uint64, int64 or float64, up to 8 dimensions) under a label."""
        self._count_flight("send")
        self._send_frame(self._sent.frame(label, array))

    def receive(self, label: str, dtype: Any, shape: tuple[int, ...], timeout: float | None = None) -> NDArray[Any]:
        """Receive the array that the protocol expects next.

        Args:
            timeout: seconds to wait; the transport's by default.

        Raises:
            ProtocolError: anything else came.
            PeerLostError: nothing came in time, or the peer reported an error.
        """
        self._count_flight("receive")
        start = time.perf_counter()
        frame = self.transport.receive(frame_size(dtype, shape), timeout)
        self.statistics.wait_seconds += time.perf_counter() - start
        return self._parse(frame, label, np.dtype(dtype), shape)

    def exchange(self, label: str, array: NDArray[Any]) -> NDArray[Any]:
        """Send an array and receive the peer's, of the same type and shape, in one round."""
        self.statistics.rounds += 1
        self._last_flight = "exchange"
        frame = self._sent.frame(label, array)
        self.statistics.bytes_sent += len(frame)
        start = time.perf_counter()
        answer = self.transport.exchange(frame, frame_size(array.dtype, array.shape))
        self.statistics.wait_seconds += time.perf_counter() - start
        return self._parse(answer, label, array.dtype, array.shape)

    def send_document(self, label: str, document: dict[str, Any]) -> None:
        """Send a small JSON document (parameters, a report).

        Raises:
            ParameterError: the document is larger than 1 MiB, so the peer would refuse it. Nothing was sent.
        """
        payload = np.frombuffer(json.dumps(document, sort_keys=True).encode(), dtype=np.uint8)
        if payload.size > _MAX_DOCUMENT_BYTES:
            raise ParameterError(
                f"cannot send {label}: expected at most {_MAX_DOCUMENT_BYTES} bytes, got {payload.size};"
                " send less at once"
            )
        self.send(f"{label}/size", np.array([payload.size], dtype=np.uint64))
        self.send(label, payload)

    def receive_document(self, label: str, timeout: float | None = None) -> Document:
        """Receive a JSON object of at most 1 MiB. The caller takes its fields.

        Raises:
            ProtocolError: the message is no such object.
        """
        what = f"{label} from {self.peer}"
        size = int(self.receive(f"{label}/size", np.uint64, (1,), timeout)[0])
        if not 0 < size <= _MAX_DOCUMENT_BYTES:
            raise ProtocolError(f"{what}: expected 1 to {_MAX_DOCUMENT_BYTES} bytes, got {size}")
        return parsed(self.receive(label, np.uint8, (size,)).tobytes(), what)

    def send_error(self, message: str) -> None:
        """Send the peer a last message that says why this side ends.

        It never raises, since the peer may be gone already. It does not wait, since the peer may be sending its own
        last message.
        """
        try:
            self.transport.send(Direction.error_report(message))
        except (ProtocolError, PeerLostError):
            return

    def await_failure(self, seconds: float) -> None:
        """Drop the peer's messages until the peer reports that it ends with an error too. Never raises.

        A side that has failed calls this after `send_error`. When the peer's report comes, the peer has told its own
        user about the error.

        Args:
            seconds: how long to wait, at most.
        """
        deadline = time.monotonic() + seconds
        while not self.peer_failed and (left := deadline - time.monotonic()) > 0:
            try:
                frame = self.transport.receive(_MAX_DROPPED_BYTES, left)
            except (ProtocolError, PeerLostError):
                return
            self.peer_failed = is_error_report(frame)

    def close(self) -> None:
        """Release the transport."""
        self.transport.close()

    def _send_frame(self, frame: bytes) -> None:
        self.statistics.bytes_sent += len(frame)
        start = time.perf_counter()
        self.transport.send(frame)
        self.statistics.wait_seconds += time.perf_counter() - start

    def _count_flight(self, direction: str) -> None:
        if self._last_flight != direction:
            self.statistics.rounds += 1
        self._last_flight = direction

    def _parse(
        self, frame: bytes | memoryview, label: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        self.statistics.bytes_received += len(frame)
        try:
            return self._received.array_of(frame, label, self.peer, (dtype, shape))
        except PeerLostError:
            self.peer_failed = True
            raise


def send_to_all(channels: Sequence[Channel], label: str, array: NDArray[Any]) -> None:
    """Send one array to several peers, and compute its checksum only once."""
    of_data = checksum_of_data(array)
    for channel in channels:
        channel._count_flight("send")
        channel._send_frame(channel._sent.frame(label, array, of_data))
