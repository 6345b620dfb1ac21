"""A program's sessions with a server of another organisation: each begins when it is first needed, and not before.

The server counts sessions, and ends those that are idle for too long. So a session that nobody uses yet holds no
connection.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from hybridface.errors import ModelError, RunError
from hybridface.models.model import Model
from hybridface.processes.runs import Run
from hybridface.remote.start import RemoteServer
from hybridface.service.requests import Described
from parties.session.progress import OnProgress
from protocols.channel import Channel
from protocols.errors import PeerLostError, ProtocolError

__all__ = ["Access", "LazySession"]

Client = TypeVar("Client", bound=AbstractContextManager[Any])


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a program reaches a server.

    Args:
        server: the client's name for it, or its address.
        identity: folder of this client's identity.
        model: the network's name at the server; "" for the gallery's, or the only one.
        timeout: seconds to wait for a message.
        on_progress: called as steps begin.
    """

    server: str
    identity: Path
    model: str = ""
    timeout: float = 300.0
    on_progress: OnProgress | None = None

    def opened(self) -> RemoteServer:
        """Ask the server what this client may use there.

        Raises:
            RunError, ParameterError, ConfigurationError: as for `RemoteServer`.
        """
        try:
            server = RemoteServer(self.server, self.identity, _warn, timeout=self.timeout, model=self.model)
        except ProtocolError as error:
            raise RunError(f"{self.server}: {error}") from error
        server.hang_up()
        return server


class LazySession(ABC, Generic[Client]):
    """The client's session with a remote server, which begins when it is first used. Use as a context manager.

    Args:
        access: how to reach the server.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._server: RemoteServer | None = None
        self._client: Client | None = None
        self._running = ExitStack()

    def __enter__(self) -> Self:
        self._server = self._access.opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client, self._server = None, None
        self._running.__exit__(kind, error, trace)

    @property
    def described(self) -> Described:
        """What the server said of itself, and what this client may use there."""
        return self._reached.described

    @property
    def model(self) -> Model:
        """The network, without weights; the first time, the server sends it.

        Raises:
            ModelError: it is not the network that this client has pinned, or the server refuses it.
            RunError: the server is gone.
        """
        server = self._reached
        try:
            return server.model
        except (PeerLostError, ProtocolError) as error:
            raise RunError(f"{server.name}: {error}") from error
        finally:
            server.hang_up()

    @abstractmethod
    def _run(self, model: Model) -> Run:
        """Return the settings of the session."""

    @abstractmethod
    def _begun(self, channel: Channel, model: Model) -> Client:
        """Return the client's side of a session that the server has opened."""

    @property
    def _reached(self) -> RemoteServer:
        if self._server is None:
            raise ModelError("expected an open session: use `with hybridface.connect(...) as session`")
        return self._server

    @contextmanager
    def _using(self) -> Iterator[Client]:
        """Give the client's session, and begin it if need be.

        Raises:
            QueryRefusedError: the server refuses the session, or the request.
            RunError: the server is gone, or does not keep to the protocol. The session is then over.
        """
        server, model = self._reached, self.model
        try:
            if self._client is None:
                with ExitStack() as beginning:
                    channel = beginning.enter_context(server.session(self._run(model), is_tuned=False))
                    client = beginning.enter_context(self._begun(channel, model))
                    self._running.push(beginning.pop_all())
                self._client = client
            yield self._client
        except (PeerLostError, ProtocolError) as error:
            raise RunError(f"{server.name}: {error}") from error


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)
