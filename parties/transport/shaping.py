"""A simulated network under a channel, for measurements with all ranks on one machine.

`ShapedTransport` wraps a transport at both ends of a channel. The sender computes when a message would arrive over the
profile's link and writes that time before the message; the receiver takes the message in and sleeps until then. The law
is that of `tc netem rate R delay D`: the messages of one direction leave one after another at the rate R, and each
arrives D after its last byte has left. Sending never waits. What MPI, TCP and their windows would add on a real link is
not simulated.

The two ends compare times of the system's monotonic clock, which the processes of one machine share, and only those:
between real machines the network is what it is, and the profile "none" is the right one. A sender is not forced to tell
the truth: this is for measuring, and protects nothing.
"""

import hashlib
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocols.channel import Transport
from protocols.errors import ProtocolError
from protocols.link import NANOSECONDS, Link

__all__ = ["Clock", "ShapedTransport", "machine_id", "shaped"]

_MAGIC = b"HFNW"
_STAMP = struct.Struct("<4s4sQ")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Clock:
    """The time that the ends of a channel share, and how to let it pass; tests replace both.

    Args:
        now: returns nanoseconds of a clock that all processes of the machine share (CLOCK_MONOTONIC).
        sleep: waits some seconds, without keeping a core busy.
    """

    now: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep


class ShapedTransport:
    """One end of a channel whose messages take as long as over a link. The peer's end has the same profile.

    Args:
        transport: moves the bytes; what it sends and receives is 16 bytes longer than what this one is given.
        link: of the link.
        peer: the peer's name, for error messages.
        timeout: seconds; a message that is to arrive later than this after it was received is refused.
        clock: shared with the peer.
    """

    def __init__(self, transport: Transport, link: Link, peer: str, timeout: float, clock: Clock | None = None) -> None:
        self._transport, self._link, self._peer = transport, link, peer
        self.timeout = timeout
        self._clock = clock or Clock()
        self._key = _key(link)
        self._busy_until = 0

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        """Send one message, as the transport below does; the link's time passes at the receiver."""
        self._transport.send(self._stamped(payload), timeout)

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes | memoryview:
        """Receive one message when it has arrived.

        Raises:
            ProtocolError: its stamp is missing, is of another profile, or is further ahead than the deadline; or as the
                transport below. PeerLostError: as the transport below.
        """
        return self._arrived(self._transport.receive(max_bytes + _STAMP.size, timeout))

    def exchange(self, payload: bytes, max_bytes: int) -> bytes | memoryview:
        """Send and receive at once: the two directions do not wait for each other."""
        return self._arrived(self._transport.exchange(self._stamped(payload), max_bytes + _STAMP.size))

    def close(self) -> None:
        """Release the transport below."""
        self._transport.close()

    def _stamped(self, payload: bytes) -> bytes:
        """Put a message on the link, and return it after the time of its arrival."""
        start = max(self._clock.now(), self._busy_until)
        self._busy_until = start + self._link.sending_nanoseconds(len(payload))
        arrival = self._busy_until + self._link.delay_nanoseconds()
        return _STAMP.pack(_MAGIC, self._key, arrival) + payload

    def _arrived(self, message: bytes | memoryview) -> bytes | memoryview:
        """Wait until a message's arrival, and return it without its stamp."""
        if len(message) < _STAMP.size or bytes(message[: len(_MAGIC)]) != _MAGIC:
            raise ProtocolError(
                f"expected a message over the simulated network {self._link.name} from {self._peer}, got one without"
            )
        _, key, arrival = _STAMP.unpack_from(message)
        if key != self._key:
            raise ProtocolError(
                f"expected the simulated network {self._link.name}, {self._peer} has another: give all the same"
            )
        ahead = arrival - self._clock.now()
        if ahead > self.timeout * NANOSECONDS:
            raise ProtocolError(
                f"expected a message from {self._peer} to arrive within {self.timeout:g} s, "
                f"its stamp says {ahead / NANOSECONDS:.1f} s"
            )
        while ahead > 0:
            self._clock.sleep(ahead / NANOSECONDS)
            ahead = arrival - self._clock.now()
        return message[_STAMP.size :]


def shaped(transport: Transport, link: Link, peer: str, timeout: float) -> Transport:
    """Return a transport over a profile's link: the transport itself if the profile does not slow anything down."""
    return ShapedTransport(transport, link, peer, timeout) if link.shapes else transport


def machine_id() -> bytes:
    """Return 8 bytes that are the same for all processes on this machine since it started, and others elsewhere."""
    return hashlib.sha256(_BOOT_ID.read_bytes()).digest()[:8]


def _key(link: Link) -> bytes:
    return hashlib.sha256(repr((link.name, link.bits_per_second, link.delay_seconds)).encode()).digest()[:4]
