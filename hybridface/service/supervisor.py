"""Keep a server running: start the door, watch it, report what it says, reload it, and end it.

The supervisor holds the listening socket, the operations endpoint and the log. It touches no client's connection and
loads no network, so nothing that a client sends can end it. The door is another process (`door`), and each session is
one more (`session`). If the door dies, its sessions end, and the supervisor starts another door on the same socket.

- SIGTERM and SIGINT: no new sessions; those that run may finish within `drain_seconds`. A second signal ends them.
- SIGHUP: a new door with the configuration, certificate and clients as they are now. When it is ready, it takes the new
  clients, and the old door serves its sessions to their end. If the new configuration cannot be used, the old door
  stays.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from hybridface.errors import RunError
from hybridface.service.address import Address
from hybridface.service.configuration import read_configuration
from hybridface.service.folder import PREPARED
from hybridface.service.logs import ServiceLog
from hybridface.service.operations import Metrics, Operations
from parties.prepared.store import kept_runs
from parties.transport.identity import read_identity
from protocols.errors import HybridFaceError

__all__ = ["Supervisor"]

_MAX_EVENT_BYTES = 1 << 14
_TICK_SECONDS = 1.0
_START_SECONDS = 120.0
_AGAIN_SECONDS = 1.0
_STOP_SECONDS = 6.0
_WARN_DAYS = 30
_DAY_SECONDS = 86_400.0
_BACKLOG = 512
_MS = 1000


@dataclass
class _DoorProcess:
    """A door, as its supervisor sees it.

    Args:
        process: the process.
        orders: the socket to it.
        is_ready: whether it accepts clients.
        sessions: by the number of its process, whether each has said how it ended.
    """

    process: "subprocess.Popen[bytes]"
    orders: socket.socket
    started: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    is_draining: bool = False
    sessions: dict[int, bool] = field(default_factory=dict)

    def order(self, what: str) -> None:
        """Give the door an order; a door that has ended needs none."""
        with suppress(OSError):
            self.orders.send(what.encode())


class Supervisor:
    """A server that runs until it is told to stop.

    Args:
        path: the configuration file.

    Raises:
        ConfigurationError: the configuration cannot be used.
        RunError: the address is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._configuration = read_configuration(path)
        self._own = read_identity(self._configuration.folder)
        self._log = ServiceLog(self._configuration.log_level)
        self._metrics = Metrics()
        self._listener = _listening(self._configuration.listen)
        self._doors: list[_DoorProcess] = []
        self._stop_at: float | None = None
        self._start_at = 0.0
        self._warn_at = 0.0
        self._failure: str | None = None
        self._has_served = False
        self._signals: list[int] = []
        self._woken, self._wake = os.pipe()

    def run(self) -> None:
        """Serve until a signal ends it.

        Raises:
            RunError: the first door cannot start; the message says why.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._hear_signal)
        with self._operations():
            try:
                self._watch()
            finally:
                for door in self._doors:
                    _end(door)
                self._listener.close()
        self._log.info("stopped")

    def _operations(self) -> AbstractContextManager[object]:
        address = self._configuration.operations
        return Operations(address, self._metrics) if address else nullcontext()

    def _watch(self) -> None:
        self._check_certificate()
        self._start()
        while self._doors or self._stop_at is None:
            self._wait()
            for number in self._signals[:]:
                self._signals.remove(number)
                self._act_on(number)
            self._look()
            if self._failure and not self._has_served:
                raise RunError(self._failure)

    def _wait(self) -> None:
        """Wait for a signal or for events, and take the events."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        by_number = {door.orders.fileno(): door for door in self._doors}
        for number in by_number:
            poll.register(number, select.POLLIN)
        for number, _ in poll.poll(_TICK_SECONDS * _MS):
            if number == self._woken:
                os.read(self._woken, 4096)
            elif number in by_number:
                self._take_event(by_number[number])

    def _look(self) -> None:
        """Notice doors that have ended, and deadlines."""
        now = time.monotonic()
        for door in self._doors[:]:
            if door.process.poll() is not None:
                self._take_rest(door)
                self._gone(door, now)
            elif not door.is_ready and now > door.started + _START_SECONDS:
                self._log.error("door", why=f"expected the door to open within {_START_SECONDS:g} s, it did not")
                _end(door)
        stopping = self._stop_at is not None
        if not stopping and not self._doors and now > self._start_at:
            self._start()
        if stopping and now > (self._stop_at or 0.0):
            for door in self._doors:
                _end(door)
        if now > self._warn_at:
            self._check_certificate()

    def _start(self) -> None:
        """Start a door."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)  # a door that does not listen must not stop the others
        with there:
            command = [sys.executable, "-m", "hybridface.service.door_process", str(self._path)]
            numbers = (self._listener.fileno(), there.fileno())
            process = subprocess.Popen(
                [*command, *map(str, numbers)], pass_fds=numbers, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._doors.append(_DoorProcess(process, here))
        self._tell_elsewhere()

    def _gone(self, door: _DoorProcess, now: float) -> None:
        self._doors.remove(door)
        door.orders.close()
        if door.process.returncode or not door.is_draining:
            self._log.error("door", why=f"ended with status {door.process.returncode}", sessions=len(door.sessions))
            self._start_at = now + _AGAIN_SECONDS
        for has_ended in door.sessions.values():
            if not has_ended:
                self._metrics.session_ended("lost", 0, 0, 0.0)
        self._tell_state()
        self._tell_elsewhere()

    def _take_rest(self, door: _DoorProcess) -> None:
        """Take the events that a door has left."""
        while self._take_event(door):
            pass

    def _take_event(self, door: _DoorProcess) -> bool:
        try:
            message = door.orders.recv(_MAX_EVENT_BYTES)
        except OSError:
            return False
        if not message:
            return False
        try:
            event: dict[str, Any] = json.loads(message)
            self._event(door, event.pop("event"), event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # a session writes here too
            self._log.warning("malformed", why=f"{type(error).__name__}: {error}")
        return True

    def _event(self, door: _DoorProcess, name: str, fields: dict[str, Any]) -> None:
        """Act on an event of a door or a session, and log it."""
        match name:
            case "ready":
                self._ready(door)
                return
            case "failed":
                self._failure = str(fields["why"])
            case "session opened":
                door.sessions.setdefault(fields["process"], False)
                self._metrics.session_opened()
                self._tell_elsewhere()
            case "session ended":
                door.sessions[fields["process"]] = True
                spent = fields["outcome"], fields["bytes_in"], fields["bytes_out"], fields["seconds"]
                self._metrics.session_ended(*spent)
            case "session gone":
                has_ended = door.sessions.pop(fields["process"], True)
                self._tell_elsewhere()
                self._count_prepared()
                if not has_ended:
                    self._metrics.session_ended("fault", 0, 0, 0.0)
            case "command":
                self._metrics.command(fields["operation"], fields["outcome"], fields["seconds"])
            case "connections":
                self._metrics.connections(fields["count"])
                return
            case "refused" | "connection":
                self._metrics.refused(fields["reason"])
        level = self._log.warning if name in ("failed", "fault", "session failed", "warning") else self._log.info
        level(name, **fields)

    def _ready(self, door: _DoorProcess) -> None:
        """Let the newest door that is ready take the place of those that were started before it."""
        door.is_ready, self._has_served = True, True
        newest = max(place for place, one in enumerate(self._doors) if one.is_ready)
        for other in self._doors[:newest]:
            other.is_draining = True
            other.order("drain")
        self._log.info("ready", listen=str(self._configuration.listen), fingerprint=self._own.fingerprint)
        self._tell_state()

    def _act_on(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload()
        elif self._stop_at is None:
            self._log.info("draining", seconds=self._configuration.drain_seconds)
            self._stop_at = time.monotonic() + self._configuration.drain_seconds
            for door in self._doors:
                door.is_draining = True
                door.order("drain")
        else:
            self._stop_at = 0.0
        self._tell_state()

    def _reload(self) -> None:
        if self._stop_at is not None:
            return
        try:
            configuration = read_configuration(self._path)
            self._own = read_identity(configuration.folder)
        except HybridFaceError as error:
            self._log.error("reload", why=str(error))
            return
        if configuration.listen != self._configuration.listen or configuration.operations != (
            self._configuration.operations
        ):
            self._log.error("reload", why="the addresses change only at a restart; the old ones stay")
        self._configuration = configuration
        self._log.set_level(configuration.log_level)
        self._log.info("reload")
        self._check_certificate()
        self._start()

    def _check_certificate(self) -> None:
        """Warn if the certificate expires soon."""
        self._warn_at = time.monotonic() + _DAY_SECONDS
        self._metrics.certificate_expires(self._own.expires)
        left = (self._own.expires - datetime.now(UTC)).days
        if left < _WARN_DAYS:
            renew = f"hybridface server renew {self._configuration.folder}"
            self._log.warning("certificate", why=f"expires in {left} days; renew it: {renew}", days=left)

    def _tell_elsewhere(self) -> None:
        """Tell each door how many sessions the others serve."""
        total = sum(len(door.sessions) for door in self._doors)
        for door in self._doors:
            door.order(f"elsewhere {total - len(door.sessions)}")

    def _count_prepared(self) -> None:
        """Count the prepared runs of each client."""
        for client in self._configuration.clients:
            self._metrics.prepared(client, kept_runs(self._configuration.folder / PREPARED / client))

    def _tell_state(self) -> None:
        draining = self._stop_at is not None
        ready = any(door.is_ready and not door.is_draining for door in self._doors)
        self._metrics.set_state("draining" if draining else "ready" if ready else "starting")

    def _hear_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)
        os.write(self._wake, b"!")


def _listening(address: Address) -> socket.socket:
    """Return a listening socket.

    Raises:
        RunError: there is none to be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server(tuple(address), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise RunError(f"cannot listen on {address}: {error.strerror}; is another server running?") from error
    listener.setblocking(False)
    return listener


def _end(door: _DoorProcess) -> None:
    """End a door and its sessions."""
    door.order("stop")
    try:
        door.process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        door.process.kill()
        door.process.wait()
