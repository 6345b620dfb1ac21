"""Digests of every byte that each protocol sends, under fixed randomness: what a refactoring must leave as it is.

`make wire-digests` runs every case and writes `wire_digests.txt` anew: a line for each direction of each case, with the
flights, messages and bytes that went that way, and the SHA-256 of the messages, each after its length, with their
numbers and checksums blank: those follow from the rest, and all later ones would change with one. A change of a
protocol changes the lines that it means to, and no others.
"""

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from unittest import mock

from parties.transport.queues import LocalTransport
from support.determinism import deterministic, party_of_thread

__all__ = ["CASES", "Recording", "case", "case_of", "digests", "load_cases", "read_digests"]

PATH = Path(__file__).resolve().parent.parent / "wire_digests.txt"
_MODULES = ("support.wire_protocols", "support.wire_correlations", "support.wire_sessions")
_NUMBER, _HEADER = 9, 16  # in a message: where its number and checksum begin, and end
_COMMENT = """\
# What each protocol sends under fixed randomness; `make wire-digests` writes this file anew.
# case | direction | flights | messages | bytes | SHA-256
"""


@dataclass
class _Direction:
    """What went one way."""

    flights: int = 0
    messages: int = 0
    size: int = 0
    hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, payload: bytes, new_flight: bool) -> None:
        self.flights += new_flight
        self.messages += 1
        self.size += len(payload)
        self.hash.update(len(payload).to_bytes(8, "little"))
        self.hash.update(payload[:_NUMBER] + bytes(_HEADER - _NUMBER) + payload[_HEADER:])

    def __str__(self) -> str:
        return f"{self.flights} | {self.messages} | {self.size} | {self.hash.hexdigest()}"


class Recording:
    """What is sent over in-process channels, by case and direction."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: dict[str, str] = {}
        self._sent: dict[tuple[str, str], _Direction] = {}
        self._last: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def part(self, name: str) -> None:
        """Let what this thread sends from now on belong to a case of its own, with this name after the case's."""
        self._parts[party_of_thread()] = name

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield case and direction, and what went there."""
        for (name, direction), sent in sorted(self._sent.items()):
            yield f"{name} | {direction}", str(sent)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record meanwhile."""
        send, receive = LocalTransport.send, LocalTransport.receive

        def recorded_send(transport: LocalTransport, payload: bytes, timeout: float | None = None) -> None:
            self._add(transport.peer, payload)
            send(transport, payload, timeout)

        def recorded_receive(transport: LocalTransport, max_bytes: int, timeout: float | None = None) -> bytes:
            self._last[party_of_thread(), transport.peer] = "receive"
            return receive(transport, max_bytes, timeout)

        with (
            mock.patch.object(LocalTransport, "send", recorded_send),
            mock.patch.object(LocalTransport, "receive", recorded_receive),
        ):
            yield

    def _add(self, peer: str, payload: bytes) -> None:
        party = party_of_thread()
        part = self._parts.get(party)
        name = f"{self._name}, {part}" if part else self._name
        with self._lock:
            sent = self._sent.setdefault((name, f"{party} -> {peer}"), _Direction())
            sent.add(payload, self._last.get((party, peer)) != f"send {name}")
            self._last[party, peer] = f"send {name}"


Case = Callable[[Recording], None]
CASES: dict[str, Case] = {}
"""Every case by its name; `load_cases` fills it."""


def case(name: str) -> Callable[[Case], Case]:
    """Register a function as a case."""

    def register(function: Case) -> Case:
        if name in CASES:
            raise ValueError(f"two cases are named {name}")
        CASES[name] = function
        return function

    return register


def load_cases() -> dict[str, Case]:
    """Return every case by its name."""
    for module in _MODULES:
        import_module(module)
    return CASES


def digests(name: str) -> dict[str, str]:
    """Run a case, and return its lines: what was sent, by case and direction."""
    recording = Recording(name)
    with deterministic(name), recording.recording():
        CASES[name](recording)
    return dict(recording.lines())


def read_digests() -> dict[str, str]:
    """Return the lines of the file."""
    lines = [line.split(" | ", 2) for line in PATH.read_text().splitlines() if not line.startswith("#")]
    return {f"{name} | {direction}": sent for name, direction, sent in lines}


def case_of(key: str) -> str:
    """Return the case of a line: its longest name that begins the line."""
    names = [name for name in CASES if key.startswith((f"{name} | ", f"{name}, "))]
    return max(names, key=len, default=key)


def main() -> None:
    """Write the file anew."""
    lines: dict[str, str] = {}
    for name in load_cases():
        sys.stderr.write(f"{name}\n")
        lines |= digests(name)
    PATH.write_text(_COMMENT + "".join(f"{key} | {sent}\n" for key, sent in sorted(lines.items())))


if __name__ == "__main__":
    import_module("support.wire").main()  # the module that the cases import, not this copy of it
