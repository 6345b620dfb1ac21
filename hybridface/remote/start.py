"""A command's run with a server of another organisation: the client's part in this process, the server's over there."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from hybridface.errors import RunError
from hybridface.models import DEFAULT_MODEL
from hybridface.models.model import Model
from hybridface.models.public import public_digest, public_document
from hybridface.output.terminal import Event
from hybridface.processes import gallery, hybrid, pure_he
from hybridface.processes.events import HeardEvents
from hybridface.processes.inputs import ClientInputs, client_inputs
from hybridface.processes.memory import peak_bytes
from hybridface.processes.outcome import Outcome
from hybridface.processes.runs import GalleryRun, HybridRun, PreparationRun, PureHeRun, Run, SharedRun
from hybridface.remote.connection import ServerConnection
from hybridface.remote.known import KnownServer, known_server
from hybridface.service.requests import Described, DescribedGallery, Purpose, SessionRequest
from parties.gallery.rights import Right
from parties.machine.tuning import tune_process
from parties.transport.roles import Role
from protocols.channel import Channel, printable
from protocols.errors import ParameterError, PeerLostError, ProtocolError, reason_for_peers

__all__ = ["RemoteServer"]

_FAILURE_SECONDS = 3.0
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class RemoteServer:
    """A server, and what this client uses there; a context manager. Each run has a connection of its own.

    Args:
        name: the server's, as `known_server` takes it.
        folder: of this client's identity.
        on_warning: called with a text that the user should read.
        timeout: seconds to wait for a message.
        model: the network's name at the server; "" for the gallery's, or the only one.

    Raises:
        RunError, ParameterError, ConfigurationError: as for `ServerConnection` and `known_server`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        on_warning: Callable[[str], None],
        *,
        timeout: float = 300.0,
        model: str = "",
    ) -> None:
        self._known, self._folder, self._on_warning = known_server(folder, name), folder, on_warning
        self._timeout, self._wanted = timeout, model
        self._connection: ServerConnection | None = None
        try:
            self.described: Described = self._open().describe()
            """What the server says of itself."""
        except BaseException:
            self.hang_up()
            raise
        self._model: Model | None = None
        self._digest = ""
        self._gallery: str | None = None

    @property
    def name(self) -> str:
        """This client's name for the server."""
        return self._known.name

    @property
    def known(self) -> KnownServer:
        """What this client knows of the server."""
        return self._known

    def use_gallery(self, name: str | None) -> DescribedGallery:
        """Choose one of the server's galleries.

        Args:
            name: None for the only one.

        Raises:
            ParameterError: there is no such gallery, or more than one.
        """
        galleries = self.described.galleries
        known = f"{', '.join(galleries) or 'none'} on {self.name}"
        if name is None:
            if len(galleries) != 1:
                raise ParameterError(f"expected --gallery with the name of one ({known}), got none")
            name = next(iter(galleries))
        if name not in galleries:
            raise ParameterError(f"expected a gallery that this client may use ({known}), got {printable(name, 80)!r}")
        self._gallery = name
        return galleries[name]

    @property
    def gallery(self) -> str | None:
        """The name of the gallery that was chosen."""
        return self._gallery

    @property
    def usual_key(self) -> Path:
        """This client's key file of the chosen gallery, where commands look for it.

        Raises:
            ParameterError: the server's name for the gallery is no name of a file.
        """
        if not _FILE_NAME.fullmatch(self._gallery or ""):
            raise ParameterError(
                f"{self.name}: expected --key, since {printable(self._gallery)!r} is no name of a file"
            )
        return self._folder / "keys" / self.name / f"{self._gallery}.key"

    def expect_right(self, right: Right) -> None:
        """Check, before anything is computed, that the server lets this client do something in the chosen gallery.

        Raises:
            ParameterError: it does not.
        """
        may = self.described.galleries[self._gallery or ""].may
        if right not in may:
            raise ParameterError(
                f"expected the right to {right} in {self._gallery} on {self.name}, which allows"
                f" {', '.join(may) or 'nothing'}; ask its operator"
            )

    @property
    def model(self) -> Model:
        """The network, without weights.

        Raises:
            ModelError: the server's network has changed since this client pinned it, or the server refuses it.
            ParameterError: there are several, and none was named.
        """
        if self._model is None:
            connection = self._open()
            self._model = connection.model(self._model_name())
            self._known = connection.server
            self._digest = public_digest(public_document(self._model))
        return self._model

    def start(self, run: Run, on_event: Callable[[Event], None] | None = None) -> Outcome:
        """Do the client's part of a run; return the outcome, as `processes.start.start` does.

        Raises:
            QueryRefusedError: the server refuses the session.
            RunError: the server has failed, or is gone.
            HybridFaceError: an input of this client cannot be used.
        """
        outcome, model = Outcome(), self.model

        def hear(event: Event) -> None:
            outcome.add(event)
            if on_event:
                on_event(event)

        own = client_inputs(run, model)
        with self.session(run) as channel:
            _work(channel, run, own, HeardEvents(Role.CLIENT, hear))
        outcome.memory[Role.CLIENT.value] = peak_bytes()
        return outcome

    @contextmanager
    def session(self, run: Run, *, is_tuned: bool = True) -> Iterator[Channel]:
        """Give the channel of a session for a run.

        Args:
            is_tuned: whether to change settings of this process, as ranks do; not in somebody else's program.

        Raises:
            QueryRefusedError, RunError: as for `start`.
        """
        if is_tuned:
            tune_process()
            torch.set_num_threads(1)
        request = self._request(run)
        with self._open() as connection:
            self._connection = None
            channel = connection.open_session(request)
            try:
                yield channel
            except (PeerLostError, ProtocolError) as error:
                _tell(channel, error)
                raise RunError(f"{self.name}: {error}") from error
            except Exception as error:
                _tell(channel, error)
                raise

    def hang_up(self) -> None:
        """End the connection for questions, which the server keeps for two minutes. What comes next makes another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def _open(self) -> ServerConnection:
        """Return a connection that has no session yet."""
        if self._connection is None:
            self._connection = ServerConnection(self._known, self._folder, self._on_warning, self._timeout)
        return self._connection

    def _model_name(self) -> str:
        """Return the name of the network to use."""
        if self._wanted:
            return self._wanted
        if self._gallery is not None:
            return self.described.galleries[self._gallery].model
        names = self.described.compares or tuple(self.described.models)
        if len(names) == 1 or DEFAULT_MODEL in names:
            return names[0] if len(names) == 1 else DEFAULT_MODEL
        raise ParameterError(f"expected --model with a network of {self.name} ({', '.join(names) or 'none'}), got none")

    def _request(self, run: Run) -> SessionRequest:
        """Return the session that a run needs."""
        asked = SessionRequest(Purpose.PAIR, self.model.name, self._digest, mode=run.mode)
        if isinstance(run, PureHeRun):
            return replace(asked, max_answers=run.max_answers)
        if not isinstance(run, SharedRun):
            raise ParameterError("expected a run of hybrid or pure-HE mode")
        asked = replace(asked, reveal=run.reveal, correlations=run.correlations)
        match run:
            case GalleryRun():
                return replace(asked, purpose=Purpose.GALLERY, gallery=self._gallery)
            case PreparationRun():
                return replace(asked, purpose=Purpose.PREPARE)
        return asked


def _work(channel: Channel, run: Run, own: ClientInputs, events: HeardEvents) -> None:
    """Do the client's part."""
    channels = {Role.SERVER: channel}
    match run:
        case GalleryRun():
            gallery.run_client(channels, [], run, own, events)
        case PreparationRun():
            hybrid.prepare(channels, run, own.model, events)
        case HybridRun():
            hybrid.run_client(channels, run, own, events)
        case PureHeRun():
            pure_he.run_client(channel, run, own, events)


def _tell(channel: Channel, error: Exception) -> None:
    """Tell the server why this side ends, and wait a moment for its own report."""
    channel.send_error(reason_for_peers(error))
    channel.await_failure(_FAILURE_SECONDS)
