"""What goes over a channel: recorded, or changed on its way; and the errors that it may cause."""

from collections.abc import Callable
from typing import Any

from protocols.channel import Channel
from protocols.errors import PeerLostError, ProtocolError

__all__ = ["Recorder", "Tampered", "outcome", "record"]


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


class Tampered:
    """A transport that changes one message, once armed."""

    def __init__(self, channel: Channel, change: Callable[[bytes], bytes]) -> None:
        self._transport, self._change = channel.transport, change
        self.armed = False
        channel.transport = self

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self._transport.send(self._changed(payload), timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        return self._transport.exchange(self._changed(payload), max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _changed(self, payload: bytes) -> bytes:
        if not self.armed:
            return payload
        self.armed = False
        return self._change(payload)


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return a result and "", or None and the message of the two errors that a peer's bytes may cause."""
    try:
        return function(*arguments), ""
    except (ProtocolError, PeerLostError) as error:
        return None, str(error)
