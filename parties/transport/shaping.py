"""Simulate a network under a channel, for measurements with all ranks on one machine.

`ShapedTransport` wraps a transport at both ends of a channel. The sender computes when a message would arrive over the
profile's link, and writes that time before the message. The receiver reads the message and sleeps until then. The
timing follows `tc netem rate R delay D`: the messages of one direction leave one after another at the rate R, and each
arrives D after its last byte has left. Sending never waits. The simulation leaves out the time that MPI, TCP and their
windows would add on a real link.

The two ends compare times of the system's monotonic clock, which only the processes of one machine share. Between real
machines, use the profile "none": the real network sets the timing there. A sender could write a false time. So the
simulation is only for measurements, and protects nothing.
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
    """The clock that the ends of a channel share, and the way to sleep. Tests replace both.

    Args:
        now: returns nanoseconds of a clock that all processes of the machine share (CLOCK_MONOTONIC).
        sleep: waits some seconds, without keeping a core busy.
    """

    now: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep


class ShapedTransport:
    """One end of a channel whose messages take as long as over a real link. The peer's end has the same profile.

    Args:
        transport: moves the bytes. Its messages are 16 bytes longer than those of this transport.
        link: the profile to simulate.
        peer: the peer's name, for error messages.
        timeout: seconds. A received message whose time of arrival is further ahead than this is refused.
        clock: shared with the peer.
    """

    def __init__(self, transport: Transport, link: Link, peer: str, timeout: float, clock: Clock | None = None) -> None:
        self._transport, self._link, self._peer = transport, link, peer
        self.timeout = timeout
        self._clock = clock or Clock()
        self._key = _key(link)
        self._busy_until = 0

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        """Send one message over the transport below. The receiver waits for the link's time to pass."""
        self._transport.send(self._stamped(payload), timeout)

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes | memoryview:
        """Receive one message when it has arrived.

        Raises:
            ProtocolError: the stamp is missing, is of another profile, or is further ahead than the deadline; or the
                transport below raises it.
            PeerLostError: the transport below raises it.
        """
        return self._arrived(self._transport.receive(max_bytes + _STAMP.size, timeout))

    def exchange(self, payload: bytes, max_bytes: int) -> bytes | memoryview:
        """Send and receive at once: the two directions do not wait for each other."""
        return self._arrived(self._transport.exchange(self._stamped(payload), max_bytes + _STAMP.size))

    def close(self) -> None:
        """Release the transport below."""
        self._transport.close()

    def _stamped(self, payload: bytes) -> bytes:
        """Put a message on the link, and return it with its time of arrival in front."""
        start = max(self._clock.now(), self._busy_until)
        self._busy_until = start + self._link.sending_nanoseconds(len(payload))
        arrival = self._busy_until + self._link.delay_nanoseconds()
        return _STAMP.pack(_MAGIC, self._key, arrival) + payload

    def _arrived(self, message: bytes | memoryview) -> bytes | memoryview:
        """Wait until a message's time of arrival, and return the message without its stamp."""
        if len(message) < _STAMP.size or bytes(message[: len(_MAGIC)]) != _MAGIC:
            raise ProtocolError(
                f"expected a message over the simulated network {self._link.name} from {self._peer}, "
                "got one without its stamp"
            )
        _, key, arrival = _STAMP.unpack_from(message)
        if key != self._key:
            raise ProtocolError(
                f"expected the simulated network {self._link.name}, but {self._peer} has another; "
                "give all ranks the same network"
            )
        ahead = arrival - self._clock.now()
        if ahead > self.timeout * NANOSECONDS:
            raise ProtocolError(
                f"expected a message from {self._peer} to arrive within {self.timeout:g} s, "
                f"but its stamp says {ahead / NANOSECONDS:.1f} s"
            )
        while ahead > 0:
            self._clock.sleep(ahead / NANOSECONDS)
            ahead = arrival - self._clock.now()
        return message[_STAMP.size :]


def shaped(transport: Transport, link: Link, peer: str, timeout: float) -> Transport:
    """Return a transport that simulates a profile, or the transport itself if the profile slows nothing down."""
    return ShapedTransport(transport, link, peer, timeout) if link.shapes else transport


def machine_id() -> bytes:
    """Return 8 bytes that identify this machine since its start: the same for all its processes, others elsewhere."""
    return hashlib.sha256(_BOOT_ID.read_bytes()).digest()[:8]


def _key(link: Link) -> bytes:
    return hashlib.sha256(repr((link.name, link.bits_per_second, link.delay_seconds)).encode()).digest()[:4]
