"""A server of another organisation within this process: real TLS on loopback, a thread for each connection.

It answers as `hybridface.service` does, by the same functions. It has no processes of its own, so it cannot be stopped
or reloaded, and serves any number of sessions.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridface.galleries.file import GalleryFile
from hybridface.models.model import load_model
from hybridface.modes import Mode
from hybridface.remote.known import add_server
from hybridface.service.address import Address
from hybridface.service.admission import Grant, admit, describe, may_see
from hybridface.service.audit import AuditLog
from hybridface.service.catalogue import Catalogue, load_catalogue
from hybridface.service.configuration import ClientSettings, ServiceConfiguration, read_configuration
from hybridface.service.requests import Ask, Refusal, RefusalKind, SessionRequest, as_text, document_of
from hybridface.service.session import Place, _serve
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.transport.identity import create_identity
from parties.transport.network import NetworkTransport
from parties.transport.tls import Trust, server_context
from parties.transport.websocket import WebSocket
from protocols.channel import Channel
from protocols.document import Document, text, word
from protocols.errors import HybridFaceError, PeerLostError, reason_for_peers

__all__ = ["NAME", "RemoteServerThread", "serving"]

NAME = "match"
"""The client's name for the server."""

GUARD_SECONDS = 60.0
RETRY_SECONDS = 7.0


@dataclass
class RemoteServerThread:
    """A running server, and the client that may use it.

    Args:
        folder: the server's.
        identity: the client's folder; it knows the server as `NAME`.
        address: where the server listens.
        configuration, catalogue: the server's. A test may put others in their place.
        is_busy: whether to refuse sessions.
        hangs_up: whether to end connections at the first question.
        alter: changes what the server says of itself.
        errors: of sessions, in order.
    """

    folder: Path
    identity: Path
    address: Address
    configuration: ServiceConfiguration
    catalogue: Catalogue
    is_busy: bool = False
    hangs_up: bool = False
    alter: Callable[[dict[str, Any]], dict[str, Any]] = dict
    sessions: int = 0
    connections: int = 0
    errors: list[Exception] = field(default_factory=list)
    open: list[NetworkTransport] = field(default_factory=list)

    @property
    def client(self) -> ClientSettings:
        """The client, as the server knows it."""
        return next(iter(self.configuration.clients.values()))

    def cut(self) -> None:
        """End all connections at once, without a word."""
        for transport in self.open:
            if not transport._is_closed:
                socket.socket.shutdown(transport._websocket._connection, socket.SHUT_RDWR)  # type: ignore[arg-type]

    def change(self, key: str, old: str, new: str) -> None:
        """Change a setting, as the server's operator would, and read everything anew."""
        path = self.folder / key
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        self.configuration = read_configuration(self.folder / "server.toml")
        self.catalogue = load_catalogue(self.configuration)

    def answer(self, transport: NetworkTransport) -> None:
        """Answer the questions of one connection, and serve its session."""
        while True:
            question = document_of(transport.receive_text(GUARD_SECONDS), self.client.name)
            if self.hangs_up:
                return
            match Ask(question.take("ask", word(*Ask))):
                case Ask.DESCRIBE:
                    found = describe(self.configuration, self.client, self.catalogue, self.is_busy)
                    transport.send_text(as_text(self.alter(found.document())))
                case Ask.MODEL:
                    transport.send_text(as_text(self._model(question)))
                case Ask.SESSION:
                    granted = self._granted(SessionRequest.read(question))
                    if isinstance(granted, Grant):
                        transport.send_text(as_text({"session": "open"}))
                        self._serve(transport, granted)
                        return
                    transport.send_text(as_text(granted.document()))

    def _model(self, question: Document) -> dict[str, Any]:
        name = question.take("model", text(256, 1))
        if name not in may_see(self.client, self.catalogue):
            return Refusal(f"no right to use {name!r}", RefusalKind.RIGHTS).document()
        return {"model": self.catalogue.models[name].document}

    def _granted(self, request: SessionRequest) -> Grant | Refusal:
        if self.is_busy:
            return Refusal("it is busy with 4 sessions", RefusalKind.BUSY, RETRY_SECONDS)
        return admit(request, self.client, self.catalogue)

    def _serve(self, transport: NetworkTransport, grant: Grant) -> None:
        self.sessions += 1
        channel = Channel(transport, "client")
        place = Place(self.configuration, AuditLog(self.folder / "audit.jsonl"), lambda event: None, "1")
        try:
            _serve(channel, grant, place)
        except HybridFaceError as error:
            self.errors.append(error)
            channel.send_error(reason_for_peers(error))
            channel.await_failure(1.0)


@contextmanager
def serving(
    folder: Path,
    *models: str,
    galleries: Mapping[str, tuple[Right, ...]] | None = None,
    kind: GalleryKind = GalleryKind.PRIVATE,
    mode: Mode = Mode.HYBRID,
) -> Iterator[RemoteServerThread]:
    """Run a server in this block, with a client that may compare photos with all networks.

    Args:
        folder: a folder for both sides.
        models: the networks' names.
        galleries: what the client may do in which gallery; all have the first network.
        kind: of the galleries, which are new.
        mode: in which the networks run.
    """
    here, there = folder / "server", folder / "client"
    own, client = create_identity(here, "match.example.org"), create_identity(there, "bank")
    listener = socket.create_server(("127.0.0.1", 0))
    address = Address("127.0.0.1", listener.getsockname()[1])
    add_server(there, address, fingerprint=own.fingerprint, name=NAME)
    rights = {name: [right.value for right in may] for name, may in (galleries or {}).items()}
    lines = [f'name = "match.example.org"\nlisten = "{address}"\ntimeout_seconds = {GUARD_SECONDS:.0f}']
    lines += [f'[models.{name}]\nmodes = ["{mode}"]' for name in models]
    lines += [f'[galleries.{name}]\nfile = "{name}.gallery"\nmodel = "{models[0]}"' for name in rights]
    (here / "server.toml").write_text("\n".join(lines))
    for name in rights:
        GalleryFile(here / f"{name}.gallery", load_model(models[0]), kind).close()
    (here / "clients").mkdir()
    allowed = [f'fingerprint = "{client.fingerprint}"\nmodels = {json.dumps(models)}\n[galleries]']
    allowed += [f"{name} = {json.dumps(may)}" for name, may in rights.items()]
    (here / "clients" / "bank.toml").write_text("\n".join(allowed))
    configuration = read_configuration(here / "server.toml")
    server = RemoteServerThread(here, there, address, configuration, load_catalogue(configuration))
    threads: list[threading.Thread] = []
    context = server_context(own, Trust((client.fingerprint,)))

    def connected(plain: socket.socket) -> None:
        plain.setblocking(False)
        secured = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        transport = NetworkTransport(WebSocket(secured), "client", GUARD_SECONDS)
        server.open.append(transport)
        try:
            server.answer(transport)
        except PeerLostError:
            return  # the client has hung up
        finally:
            transport.close()

    def accept() -> None:
        while True:
            plain, _ = listener.accept()
            if plain.getpeername() == ending:
                plain.close()
                return
            server.connections += 1
            threads.append(threading.Thread(target=connected, args=(plain,), daemon=True))
            threads[-1].start()

    ending: Any = None
    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield server
    finally:
        with socket.socket() as last:
            last.bind(("127.0.0.1", 0))
            ending = last.getsockname()
            last.connect(tuple(address))
            accepting.join(GUARD_SECONDS)
        listener.close()
        for thread in threads:
            thread.join(GUARD_SECONDS)
            assert not thread.is_alive()
