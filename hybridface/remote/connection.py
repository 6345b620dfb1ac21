"""A client's connection to a server of another organisation: questions, then a session."""

import ssl
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hybridface.errors import ModelError, RunError
from hybridface.remote.known import KnownServer, known_server, pin
from hybridface.service.requests import Ask, Described, SessionRequest, as_text, described, document_of, session_answer
from parties.gallery.errors import QueryRefusedError
from parties.transport.certificates import expiry_of
from parties.transport.identity import read_identity
from parties.transport.network import NetworkTransport, connect
from parties.transport.tls import client_context, peer_name, tls_reason
from protocols.channel import Channel
from protocols.document import Document, json_object
from protocols.errors import PeerLostError, ProtocolError

if TYPE_CHECKING:
    from hybridface.models.model import Model

__all__ = ["ServerConnection", "reach"]

_PEER = "server"
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
_PINGS = 5
_ENDS = ssl.SSLEOFError, ssl.SSLZeroReturnError
"""What TLS says when an established connection ends."""


class ServerConnection:
    """A connection to a server; a context manager. At most one session may follow the questions.

    Args:
        server: whom to connect to.
        folder: of this client's identity.
        on_warning: called with a text that the user should read.
        timeout: seconds to wait for a message in the session.

    Raises:
        RunError: there is no connection, or one side does not trust the other; the message says what to do.
        ParameterError: this client's identity cannot be used.
    """

    def __init__(
        self, server: KnownServer, folder: Path, on_warning: Callable[[str], None], timeout: float = 300.0
    ) -> None:
        self.server, self._folder, self._on_warning = server, folder, on_warning
        context = client_context(read_identity(folder), server.trust)
        try:
            websocket = connect(server.address.host, server.address.port, context, _CONNECT_SECONDS)
        except PeerLostError as error:
            raise RunError(f"cannot reach {server.name}: {error}") from error
        except OSError as error:
            raise RunError(f"cannot use {server.name} at {server.address}: {tls_reason(error)}") from error
        try:
            peer_name(websocket.security()[0], server.trust)  # TLS also accepts a key that the pinned one has signed
        except ProtocolError as error:
            websocket.close()
            raise RunError(f"cannot use {server.name} at {server.address}: {error}") from error
        self._transport = NetworkTransport(websocket, _PEER, timeout)
        self._channel: Channel | None = None

    def describe(self) -> Described:
        """Return what the server says of itself.

        Raises:
            RunError: the server has refused this client, or is gone. ProtocolError: its answer is malformed.
        """
        return described(self._ask({"ask": Ask.DESCRIBE.value}))

    def model(self, name: str) -> "Model":
        """Return the public half of a network, which is pinned or becomes so.

        Raises:
            ModelError: the network is not the one that was pinned, or the server refuses it.
            RunError, ProtocolError: as for `describe`.
        """
        from hybridface.models.public import model_from_document, public_digest  # loads torch, which questions need not

        answer = self._ask({"ask": Ask.MODEL.value, "model": name})
        if answer.has("refused"):
            refusal = session_answer(answer)
            raise ModelError(f"{self.server.name} refuses: {refusal.reason if refusal else ''}")
        fields = answer.take("model", json_object)
        answer.end()
        digest = public_digest(fields)
        self._expect_pinned(name, digest)
        model = model_from_document(Document(fields, f"the network {name} from {self.server.name}"), name)
        if name not in self.server.pins:
            self.server = pin(self._folder, self.server.name, name, digest)
            self._on_warning(f"{self.server.name}: first use of its network {name}, pinned as {digest[:16]}")
        return model

    def open_session(self, request: SessionRequest) -> Channel:
        """Begin a session, and return its channel.

        Raises:
            QueryRefusedError: the server refuses it.
            RunError, ProtocolError: as for `describe`.
        """
        refusal = session_answer(self._ask(request.document()))
        if refusal is not None:
            raise QueryRefusedError(f"{self.server.name}: {refusal.reason}", refusal.retry_after)
        self._channel = Channel(self._transport, _PEER)
        return self._channel

    def certificate(self) -> tuple[str, datetime, str]:
        """Return who the server is, when its certificate expires, and how the connection is encrypted."""
        der, encryption = self._transport.security()
        return peer_name(der, self.server.trust), expiry_of(der), encryption

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _expect_pinned(self, name: str, digest: str) -> None:
        pinned = self.server.pins.get(name, digest)
        if digest != pinned:
            raise ModelError(
                f"{self.server.name}: expected the network {name} that was pinned ({pinned[:16]}), got another"
                f" ({digest[:16]}); if its operator has announced the change:"
                f" hybridface client trust {self.server.name} --model {name}"
            )

    def _ask(self, question: dict[str, Any]) -> Document:
        """Ask a question, and return the answer."""
        try:
            self._transport.send_text(as_text(question))
            return document_of(self._transport.receive_text(_ANSWER_SECONDS), self.server.name)
        except PeerLostError as error:
            reason = self._transport.why_ended()
            was_refused = isinstance(reason, ssl.SSLError) and not isinstance(reason, _ENDS)
            said = tls_reason(reason) if reason and was_refused else str(error)
            raise RunError(f"{self.server.name} at {self.server.address}: {said}") from error


def reach(folder: Path, name: str, on_warning: Callable[[str], None]) -> dict[str, Any]:
    """Return, as a JSON object, what a server says of itself, and how long an answer takes.

    Raises:
        RunError, ParameterError: as for `ServerConnection`.
    """
    server = known_server(folder, name)
    with ServerConnection(server, folder, on_warning) as connection:
        times = []
        for _ in range(_PINGS):
            began = time.perf_counter()
            said = connection.describe()
            times.append(time.perf_counter() - began)
        identity, expires, encryption = connection.certificate()
    models = [
        {"name": one, "digest": digest, "state": _state(server, one, digest), "compares": one in said.compares}
        for one, digest in sorted(said.models.items())
    ]
    return {
        **said.document(),
        "address": str(server.address),
        "identity": identity,
        "expires": expires.isoformat(),
        "encryption": encryption,
        "round_trip_ms": statistics.median(times) * 1e3,
        "models": models,
    }


def _state(server: KnownServer, model: str, digest: str) -> str:
    """Return what this client knows of a network."""
    pinned = server.pins.get(model)
    return "new" if pinned is None else "pinned" if pinned == digest else "changed"
