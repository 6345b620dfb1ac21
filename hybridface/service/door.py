"""Accept connections, answer clients' questions, and fork a process for each session.

One process, one thread, no waiting: TLS, WebSocket and questions of all clients advance in turn. A connection becomes a
session by a fork: the new process takes over the connection as it is, with TLS's keys, and this process forgets it. The
networks were loaded before, so sessions share their memory and begin at once.

Whoever is not authenticated costs little: a connection has 10 seconds to become a client's, and if there are too many,
the oldest such connection makes room for the newest.
"""

import gc
import os
import secrets
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hybridface.errors import RunError
from hybridface.service.admission import Grant, admit, describe, may_see
from hybridface.service.audit import AUDIT, AuditLog
from hybridface.service.catalogue import Catalogue
from hybridface.service.configuration import ClientSettings, ServiceConfiguration
from hybridface.service.requests import Ask, Refusal, RefusalKind, SessionRequest, as_text, document_of
from hybridface.service.session import Place, serve_session
from parties.transport.network import MAX_TEXT_BYTES
from parties.transport.tls import Trust, peer_name
from parties.transport.websocket import WebSocket
from protocols.document import Document, text, word
from protocols.errors import HybridFaceError, ProtocolError

__all__ = ["Door", "trust_of"]

_MOST_GUESTS, _MOST_OF_ONE_CLIENT = 256, 32
_ENTRY_SECONDS = 10.0
"""How long a connection may take to become a client's."""

_QUESTION_SECONDS = 120.0
"""How long a client may take for its next question."""

_RETRY_SECONDS = 10.0
_ACCEPTED_AT_ONCE = 16
_KILL_SECONDS = 4.0
_TICK_SECONDS = 1.0
_LINGER_SECONDS = 2.0
_MS = 1000
_MOST_STEPS = 32
"""Reads of one connection in turn: eight MiB, where a question has a few hundred bytes."""

_SHOWN = 80


@dataclass
class _Guest:
    """A connection that has no session yet.

    Args:
        connection: the socket with TLS.
        address: the peer's, for the log.
        deadline: when to give up.
        client: who it is, when TLS has said so.
    """

    connection: ssl.SSLSocket
    websocket: WebSocket
    address: str
    deadline: float
    client: ClientSettings | None = None


@dataclass
class Door:
    """The process at the door.

    Args:
        configuration: the server's settings.
        catalogue: what it offers.
        context: TLS's settings.
        listener: the listening socket; it does not block.
        orders: a socket to the supervisor: events go out, orders come in. Its end ends this process.
        report: sends an event to the supervisor.
    """

    configuration: ServiceConfiguration
    catalogue: Catalogue
    context: ssl.SSLContext
    listener: socket.socket
    orders: socket.socket
    report: Callable[[dict[str, Any]], None]
    _guests: dict[int, _Guest] = field(default_factory=dict)
    _sessions: dict[int, int] = field(default_factory=dict)
    """Process numbers of running sessions, by the descriptor that tells their end."""
    _elsewhere: int = 0
    """Sessions that a door before this one still serves."""
    _counted: int = 0
    _is_draining: bool = False
    _is_stopping: bool = False

    def run(self) -> None:
        """Serve until the supervisor says to end, or is gone."""
        self._alive, self._door_lives = os.pipe()
        self._poll = select.poll()
        for number in (self.listener.fileno(), self.orders.fileno()):
            self._poll.register(number, select.POLLIN)
        gc.collect()
        gc.freeze()  # so that collections in sessions do not copy shared memory
        self.report({"event": "ready"})
        while not (self._is_draining and not self._sessions and not self._guests):
            for number, _ in self._poll.poll(_TICK_SECONDS * _MS):
                self._handle(number)
            self._end_late()
            self._count_guests()
            if self._is_stopping:
                self._kill()
                return

    def _handle(self, number: int) -> None:
        if number == self.listener.fileno():
            self._accept()
        elif number == self.orders.fileno():
            self._obey()
        elif number in self._sessions:
            self._reap(number)
        elif number in self._guests:
            self._advance(self._guests[number])

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                plain, address = self.listener.accept()
            except OSError:  # nobody is waiting, or they have gone, or there are no descriptors left
                return
            self._make_room()
            try:
                plain.setblocking(False)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secured = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            except OSError:
                plain.close()
                continue
            deadline = time.monotonic() + _ENTRY_SECONDS
            guest = _Guest(secured, WebSocket(secured), str(address[0]), deadline)
            self._guests[secured.fileno()] = guest
            self._poll.register(secured.fileno(), guest.websocket.events)
            self._advance(guest)

    def _make_room(self) -> None:
        """Drop the oldest connection that is no client's, if there are too many."""
        if len(self._guests) >= _MOST_GUESTS:
            strangers = [guest for guest in self._guests.values() if guest.client is None]
            self._drop((strangers or list(self._guests.values()))[0], "crowded")

    def _advance(self, guest: _Guest) -> None:
        """Do what is possible for one connection without waiting."""
        try:
            steps = 0
            while guest.websocket.step(MAX_TEXT_BYTES):
                steps += 1
                if steps > _MOST_STEPS:
                    raise ProtocolError("expected questions, got far more bytes than questions have")
            if guest.client is None and guest.websocket.is_open:
                self._recognise(guest)
            while guest.websocket.messages:
                message = guest.websocket.messages.popleft()
                if self._answer(guest, bytes(message.payload) if message.is_text else b""):
                    return
            guest.websocket.write()
        except HybridFaceError as error:
            self._drop(guest, "malformed", str(error))
            return
        except Exception as error:  # a defect; it must not end the door, which all clients share
            self._drop(guest, "fault", f"{type(error).__name__}: {error}")
            return
        if guest.websocket.ended and not guest.websocket.is_writing:
            self._drop(guest, self._why_gone(guest), guest.websocket.ended)
        if guest.connection.fileno() in self._guests:
            self._poll.modify(guest.connection.fileno(), guest.websocket.events)

    def _recognise(self, guest: _Guest) -> None:
        """Find out which client this is, from the certificate that TLS has verified."""
        certificate = guest.connection.getpeercert(binary_form=True) or b""
        name = peer_name(certificate, trust_of(self.configuration))
        found = [one for one in self.configuration.clients.values() if one.peer == name]
        if not found:
            raise HybridFaceError(f"expected a client of this server, got {name}")
        if sum(other.client is found[0] for other in self._guests.values()) >= _MOST_OF_ONE_CLIENT:
            raise HybridFaceError(
                f"expected at most {_MOST_OF_ONE_CLIENT} connections of {found[0].name}, got one more"
            )
        guest.client = found[0]
        guest.deadline = time.monotonic() + _QUESTION_SECONDS

    def _answer(self, guest: _Guest, message: bytes) -> bool:
        """Answer a question; return whether a session has taken the connection."""
        client = guest.client
        if client is None:
            return False
        guest.deadline = time.monotonic() + _QUESTION_SECONDS
        question = document_of(message.decode(errors="replace"), client.name)
        match Ask(question.take("ask", word(*Ask))):
            case Ask.DESCRIBE:
                question.end()
                busy = self._is_busy
                answer = describe(self.configuration, client, self.catalogue, busy).document()
            case Ask.MODEL:
                answer = self._model(question, client)
            case Ask.SESSION:
                request = SessionRequest.read(question)
                granted = self._granted(request, client)
                if isinstance(granted, Grant):
                    self._open(guest, granted)
                    return True
                self._log_refusal(client, request, granted)
                answer = granted.document()
        guest.websocket.send(as_text(answer).encode(), is_text=True)
        return False

    @property
    def _is_busy(self) -> bool:
        return len(self._sessions) + self._elsewhere >= self.configuration.max_sessions

    def _model(self, question: Document, client: ClientSettings) -> dict[str, Any]:
        name = question.take("model", text(256, 1))
        question.end()
        if name not in may_see(client, self.catalogue):
            reason = f"{client.name!r} has no right to use the network {name!r}; ask the server's operator"
            return Refusal(reason, RefusalKind.RIGHTS).document()
        return {"model": self.catalogue.models[name].document}

    def _granted(self, request: SessionRequest, client: ClientSettings) -> Grant | Refusal:
        if self._is_draining:
            return Refusal("it is being restarted", RefusalKind.DRAINING, _RETRY_SECONDS)
        granted = admit(request, client, self.catalogue)
        if isinstance(granted, Grant) and self._is_busy:
            sessions = self.configuration.max_sessions
            return Refusal(f"it is busy with {sessions} sessions", RefusalKind.BUSY, _RETRY_SECONDS)
        return granted

    def _open(self, guest: _Guest, grant: Grant) -> None:
        """Fork a process for the session, which takes the connection over."""
        number = secrets.token_hex(8)
        self._forget(guest)
        try:
            process = os.fork()
        except OSError as error:
            self.report({"event": "fault", "why": f"cannot start a session: {error.strerror}"})
            guest.websocket.close()
            return
        if process == 0:
            self._become_session(guest, grant, number)
        guest.connection.close()  # only the descriptor: TLS says nothing
        told = os.pidfd_open(process)
        self._sessions[told] = process
        self._poll.register(told, select.POLLIN)
        self.report({"event": "session opened", "session": number, "client": grant.client.name, "process": process})

    def _become_session(self, guest: _Guest, grant: Grant, number: str) -> None:
        """Be a session's process, and end with it."""
        status = 1
        try:
            os.close(self._door_lives)
            self.listener.close()
            for other in self._guests.values():
                other.connection.close()
            for told in self._sessions:
                os.close(told)
            _end_with(self._alive)
            audit = AuditLog(self.configuration.folder / AUDIT)
            serve_session(guest.websocket, grant, Place(self.configuration, audit, self.report, number))
            status = 0
        finally:
            os._exit(status)

    def _reap(self, told: int) -> None:
        """Note that a session's process has ended."""
        self._poll.unregister(told)
        process = self._sessions.pop(told)
        os.close(told)
        _, status = os.waitpid(process, 0)
        self.report({"event": "session gone", "process": process, "status": os.waitstatus_to_exitcode(status)})

    def _obey(self) -> None:
        """Do what the supervisor says; end if it is gone."""
        try:
            order = self.orders.recv(1024)
        except OSError:
            order = b""
        match order.split():
            case [b"drain"]:
                self._drain()
            case [b"elsewhere", count]:
                self._elsewhere = int(count)
            case _:
                self._drain()
                self._is_stopping = True

    def _drain(self) -> None:
        if not self._is_draining:
            self._is_draining = True
            self._poll.unregister(self.listener.fileno())
            self.listener.close()
            for guest in self._guests.values():
                guest.deadline = min(guest.deadline, time.monotonic() + _LINGER_SECONDS)

    def _end_late(self) -> None:
        now = time.monotonic()
        for guest in list(self._guests.values()):
            if guest.deadline < now:
                self._drop(guest, "late")

    def _count_guests(self) -> None:
        if len(self._guests) != self._counted:
            self._counted = len(self._guests)
            self.report({"event": "connections", "count": self._counted})

    def _drop(self, guest: _Guest, reason: str, why: str = "") -> None:
        """Forget a connection that has not become a session."""
        self._forget(guest)
        guest.websocket.close()
        if reason != "done":
            client = guest.client.name if guest.client else None
            self.report(
                {"event": "connection", "reason": reason, "why": why, "address": guest.address, "client": client}
            )

    def _forget(self, guest: _Guest) -> None:
        number = guest.connection.fileno()
        with suppress(KeyError):
            self._poll.unregister(number)
        self._guests.pop(number, None)

    def _why_gone(self, guest: _Guest) -> str:
        """Return in one word why a connection has ended."""
        if guest.client is not None:
            return "done"
        return "tls" if isinstance(guest.websocket.error, ssl.SSLError) else "no client"

    def _log_refusal(self, client: ClientSettings, request: SessionRequest, refusal: Refusal) -> None:
        """Log and report that a session is refused."""
        about = {"client": client.name, "model": request.model[:_SHOWN], "gallery": (request.gallery or "")[:_SHOWN]}
        try:
            log = AuditLog(self.configuration.folder / AUDIT)
            log.write(event="refused", peer=client.peer, outcome=refusal.kind.value, **about)
        except RunError as error:
            self.report({"event": "fault", "why": str(error)})
        self.report({"event": "refused", "reason": refusal.kind.value, **about})

    def _kill(self) -> None:
        """End all sessions: ask them, wait a moment, and kill what is left."""
        for process in self._sessions.values():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + _KILL_SECONDS
        while self._sessions and (left := deadline - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left * _MS):
                if number in self._sessions:
                    self._reap(number)
        for process in self._sessions.values():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _end_with(alive: int) -> None:
    """End this process when the door has ended, however that happens."""

    def watch() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, name="door", daemon=True).start()


def trust_of(configuration: ServiceConfiguration) -> Trust:
    """Return whom the server's TLS trusts."""
    fingerprints = tuple(one.fingerprint for one in configuration.clients.values() if one.fingerprint)
    return Trust(fingerprints, configuration.client_ca)
