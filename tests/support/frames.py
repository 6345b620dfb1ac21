"""What goes over a channel: recorded, or changed on its way; and the errors that it may cause."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

from protocols.channel import Channel
from protocols.errors import PeerLostError, ProtocolError

__all__ = ["Recorder", "Tampered", "outcome", "record", "sealed", "send_again"]


class Recorder:
    """A transport that keeps every frame that goes out."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sent: list[bytes] = []

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self.sent.append(payload)
        self._transport.send(payload, timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        self.sent.append(payload)
        return self._transport.exchange(payload, max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def record(channel: Any) -> list[bytes]:
    """Return a list that every frame sent over the channel from now on is added to."""
    channel.transport = Recorder(channel.transport)
    return channel.transport.sent


def sealed(frame: bytes, number: int = 0, previous: int = 0) -> bytes:
    """Return a message with the number and the checksum that fit it, after a message with the checksum `previous`."""
    start = 16 + 8 * frame[8]
    head = frame[:9] + number.to_bytes(3, "little")
    rest = head + frame[16:start] + struct.pack("<I", previous)
    return head + struct.pack("<I", zlib.crc32(rest, zlib.crc32(frame[start:]))) + frame[16:]


def send_again(channel: Channel, frame: bytes) -> None:
    """Send a message that was sent before, as a hostile peer: with the number and the checksum of the next one."""
    sent = channel._sent
    again = sealed(frame, sent.number, sent.checksum)
    (sent.checksum,) = struct.unpack_from("<I", again, 12)
    sent.number += 1
    channel.transport.send(again)


class Tampered:
    """A transport that changes one message, once armed: as a hostile peer, who makes numbers and checksums fit."""

    def __init__(self, channel: Channel, change: Callable[[bytes], bytes]) -> None:
        self._transport, self._change = channel.transport, change
        self._checksum = channel._sent.checksum
        self.armed = False
        channel.transport = self

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self._transport.send(self._changed(payload), timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        return self._transport.exchange(self._changed(payload), max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _changed(self, payload: bytes) -> bytes:
        number, is_report = int.from_bytes(payload[9:12], "little"), payload[3] == 255
        if self.armed:
            self.armed = False
            payload = self._change(payload)
        if len(payload) < 16 or is_report:
            return payload
        payload = sealed(payload, number, self._checksum)
        (self._checksum,) = struct.unpack_from("<I", payload, 12)
        return payload


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return a result and "", or None and the message of the two errors that a peer's bytes may cause."""
    try:
        return function(*arguments), ""
    except (ProtocolError, PeerLostError) as error:
        return None, str(error)
