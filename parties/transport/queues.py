"""Connect the threads of one process by queues of byte strings. For notebooks and fast tests."""

import queue
from dataclasses import dataclass, field

from parties.transport.shaping import shaped
from protocols.channel import Channel
from protocols.errors import PeerLostError, ProtocolError
from protocols.link import NONE, Link

__all__ = ["LocalTransport", "local_channels"]

_CLOSED = b""


@dataclass
class LocalTransport:
    """One end of a pair of queues.

    Args:
        peer: the peer's name, for error messages.
        timeout: seconds to wait for a message.
    """

    peer: str
    timeout: float
    _incoming: "queue.SimpleQueue[bytes]" = field(default_factory=queue.SimpleQueue)
    _outgoing: "queue.SimpleQueue[bytes]" = field(default_factory=queue.SimpleQueue)

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        """Queue one message, and never wait."""
        self._outgoing.put(payload)

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next message."""
        seconds = self.timeout if timeout is None else timeout
        try:
            payload = self._incoming.get(timeout=seconds)
        except queue.Empty:
            raise PeerLostError(f"expected a message from {self.peer} within {seconds:g} s, got none") from None
        if payload == _CLOSED:
            self._incoming.put(_CLOSED)
            raise PeerLostError(f"expected a message from {self.peer}, but it has ended")
        if len(payload) > max_bytes:
            raise ProtocolError(f"expected at most {max_bytes} bytes from {self.peer}, got {len(payload)}")
        return payload

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        """Send and receive."""
        self.send(payload)
        return self.receive(max_bytes)

    def close(self) -> None:
        """Tell the peer that nothing more will come."""
        self._outgoing.put(_CLOSED)


def local_channels(first: str, second: str, timeout: float = 60.0, link: Link = NONE) -> tuple[Channel, Channel]:
    """Return the two ends of an in-process channel: `first`'s end and `second`'s end.

    Args:
        timeout: seconds that an end waits for a message.
        link: the network to simulate.
    """
    there: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    back: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    ends = {
        second: LocalTransport(second, timeout, _incoming=back, _outgoing=there),
        first: LocalTransport(first, timeout, _incoming=there, _outgoing=back),
    }
    to_second, to_first = (Channel(shaped(end, link, peer, timeout), peer) for peer, end in ends.items())
    return to_second, to_first
