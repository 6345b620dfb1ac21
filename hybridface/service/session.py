"""One client's session, in a process of its own that the door has forked: a fault here touches nobody else.

The process has the networks from before the fork, in memory that all sessions share. It has no other client's
connection, and it ends with its session. As a fork of the door it also has a copy of TLS's settings, with the server's
key.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from hybridface.errors import RunError
from hybridface.models.terms import hybrid_terms
from hybridface.modes import Mode
from hybridface.processes import gallery, hybrid, pure_he
from hybridface.processes.events import HeardEvents
from hybridface.processes.memory import peak_bytes
from hybridface.processes.runs import GalleryRun, HybridRun, PureHeRun
from hybridface.service.admission import Grant
from hybridface.service.audit import AuditLog
from hybridface.service.configuration import ServiceConfiguration
from hybridface.service.requests import Purpose, Refusal, RefusalKind, as_text
from parties.machine.tuning import tune_process
from parties.prepared.store import opened_store
from parties.session.server_endpoint import ServerEndpoint
from parties.transport.network import NetworkTransport
from parties.transport.roles import Role
from parties.transport.websocket import WebSocket
from protocols.channel import Channel
from protocols.errors import HybridFaceError, PeerLostError, ProtocolError, reason_for_peers

__all__ = ["Place", "serve_session"]

Report = Callable[[dict[str, Any]], None]
"""A function that reports an event to the supervisor."""

_FAILURE_SECONDS = 3.0


@dataclass(frozen=True)
class Place:
    """What a session's process has from the server.

    Args:
        configuration: the server's.
        audit: the log.
        report: reports events to the supervisor.
        number: the session's number, unique in the log.
    """

    configuration: ServiceConfiguration
    audit: AuditLog
    report: Report
    number: str

    @property
    def cache(self) -> Path:
        """The folder of encoded weights."""
        return self.configuration.folder / "cache"

    def prepared_of(self, client: str) -> Path:
        """Return the folder of runs that were prepared with a client."""
        return self.configuration.folder / "prepared" / client


class _StoppedError(PeerLostError):
    """The server's operator has ended the session."""


def serve_session(websocket: WebSocket, grant: Grant, place: Place) -> None:
    """Serve one client to the end of its session, and report how it went. Raises nothing."""
    signal.signal(signal.SIGTERM, _stop)
    tune_process()
    torch.set_num_threads(1)
    configuration = place.configuration
    transport = NetworkTransport(
        websocket, "the client", configuration.timeout_seconds, longest=configuration.idle_seconds
    )
    channel = Channel(transport, "client")
    began, outcome = time.monotonic(), "fault"
    try:
        _open(transport, grant, place)
        _serve(channel, grant, place)
        outcome = "ended"
    except Exception as error:
        outcome = _outcome_of(error)
        place.report({"event": "session failed", "outcome": outcome, "why": _why(error)})
        channel.send_error(reason_for_peers(error))
        channel.await_failure(_FAILURE_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        spent = {
            "outcome": outcome,
            "bytes_in": channel.statistics.bytes_received,
            "bytes_out": channel.statistics.bytes_sent,
            "seconds": round(time.monotonic() - began, 3),
        }
        try:
            _log(grant, place, "session ended", **spent)
        except RunError as error:
            place.report({"event": "session failed", "outcome": "log", "why": _why(error)})
        place.report({"event": "session ended", "process": os.getpid(), "peak_bytes": peak_bytes(), **spent})
        channel.close()


def _open(transport: NetworkTransport, grant: Grant, place: Place) -> None:
    """Tell the client that the session begins, or that it cannot be logged.

    Raises:
        RunError: it cannot be logged.
    """
    try:
        _log(grant, place, "session opened")
    except RunError:
        refusal = Refusal("it cannot log this session; its operator must look", RefusalKind.FAULT)
        transport.send_text(as_text(refusal.document()))
        raise
    transport.send_text(as_text({"session": "open"}))


def _serve(channel: Channel, grant: Grant, place: Place) -> None:
    """Run the session that the client asked for."""
    request, model = grant.request, grant.served.model
    channels = {Role.CLIENT: channel}
    shared: dict[str, Any] = {
        "model": model.name,
        "reveal": request.reveal,
        "correlations": request.correlations,
        "cache": place.cache,
        "prepared": place.prepared_of(grant.client.name),
    }
    events = _ServerEvents(grant, place)
    if request.mode is Mode.PURE_HE:
        run = PureHeRun(model=model.name, max_answers=request.max_answers)
        pure_he.run_server(channel, run, model, events)
    elif request.purpose is Purpose.PREPARE:
        _serve_preparations(channel, grant, shared)
    elif grant.gallery is not None:
        about = GalleryRun(
            **shared,
            gallery=grant.gallery.file,
            new_gallery=True,
            client_name=grant.client.name,
            may=grant.may,
        )
        gallery.run_server(channels, [], about, model, events)
    else:
        hybrid.run_server(channels, [], HybridRun(**shared), model, events)


def _serve_preparations(channel: Channel, grant: Grant, shared: dict[str, Any]) -> None:
    """Prepare runs with the client; carry out no other command."""
    model, request = grant.served.model, grant.request
    ServerEndpoint(
        channel,
        None,
        hybrid_terms(model, request.reveal, request.correlations),
        model.weights or {},
        cache=shared["cache"],
        prepared=opened_store(shared["prepared"]),
    ).serve(_only_preparations)


def _only_preparations(_: object) -> NoReturn:
    raise ProtocolError("expected only preparations in this session, got another command")


class _ServerEvents(HeardEvents):
    """Log each command, and hand on what the server has learned, since the terms say that it may."""

    def __init__(self, grant: Grant, place: Place) -> None:
        super().__init__(Role.SERVER, self._learned)
        self._grant, self._place = grant, place

    def command(self, operation: str, is_done: bool, seconds: float) -> None:
        """Log a command."""
        outcome = "done" if is_done else "refused"
        _log(self._grant, self._place, "command", operation=operation, outcome=outcome, seconds=round(seconds, 3))
        self._place.report({"event": "command", "operation": operation, "outcome": outcome, "seconds": seconds})

    def _learned(self, event: dict[str, Any]) -> None:
        if event["event"] in ("decision", "identified"):
            about = {"client": self._grant.client.name, "gallery": self._grant.request.gallery}
            self._place.report({**event, **about, "session": self._place.number})


def _log(grant: Grant, place: Place, event: str, **fields: Any) -> None:
    place.audit.write(
        event=event,
        client=grant.client.name,
        peer=grant.client.peer,
        session=place.number,
        model=grant.request.model,
        gallery=grant.request.gallery,
        **fields,
    )


def _outcome_of(error: Exception) -> str:
    match error:
        case _StoppedError():
            return "stopped"
        case PeerLostError():
            return "lost"
        case ProtocolError():
            return "protocol"
        case HybridFaceError():
            return "refused"
    return "fault"


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, HybridFaceError) else f"{type(error).__name__}: {error}"


def _stop(number: int, frame: object) -> NoReturn:
    raise _StoppedError("the server is being stopped; try again later")
