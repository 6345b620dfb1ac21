"""The work of gallery commands with a server of another organisation; the client's part is in this process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybridface.commands.gallery_options import SessionSettings
from hybridface.commands.gallery_runs import counting, of_photos, with_chips
from hybridface.commands.places import existing_prepared_path, say_warning
from hybridface.folders import temporary_folder
from hybridface.galleries.tasks import GalleryTask, Verb, write_tasks
from hybridface.processes.events import HeardEvents
from hybridface.processes.gallery import client_session
from hybridface.processes.outcome import Outcome
from hybridface.processes.runs import GalleryRun
from hybridface.remote.start import RemoteServer
from parties.gallery.key import create_key, read_key
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.machine.durable import make_folder
from parties.transport.roles import Role
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal

__all__ = ["RemoteGallery", "answers_of", "remote_gallery"]

Answer = dict[str, Any]


@dataclass(frozen=True)
class RemoteGallery:
    """A gallery of a remote server.

    Args:
        server: where it is.
        name: the server's name for it.
        kind: its kind.
        key: the client's key file; None for a list.
        settings: the command's.
    """

    server: RemoteServer
    name: str
    kind: GalleryKind
    key: Path | None
    settings: SessionSettings

    def do(
        self,
        tasks: Sequence[GalleryTask],
        *,
        reveal: Reveal = Reveal.CLIENT,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> Outcome:
        """Do tasks in one session, as `run_queries` does on this machine."""
        settings = self.settings
        for task in tasks:
            self.expect_right(task.verb)
        if self.key is not None:
            if not self.key.exists():
                raise ParameterError(
                    f"expected the key of {self.name} on {self.server.name}, found no {self.key};"
                    " another key finds nobody"
                )
            read_key(self.key)
        with temporary_folder() as folder, counting(len(tasks), settings) as advance:
            path = folder / "tasks.jsonl"
            write_tasks(path, with_chips(tasks, folder, settings, self.server.model.chip_size))

            def on_event(event: Answer) -> None:
                if event["event"] == "warning":
                    say_warning(event["message"])
                if event["event"] == "answer":
                    advance(str(event["identity"] or event["verb"]))
                    if on_answer:
                        on_answer(event)

            return self.server.start(replace(self._run(reveal), tasks=path), on_event)

    @contextmanager
    def session(self) -> Iterator[PrivateClientSession]:
        """Give a session with the gallery, which must be private."""
        run = self._run(Reveal.CLIENT)
        events = HeardEvents(Role.CLIENT, lambda event: None)
        with (
            self.server.session(run) as channel,
            client_session({Role.SERVER: channel}, [], run, self.server.model, events) as session,
        ):
            if not isinstance(session, PrivateClientSession):
                raise ParameterError(f"{self.name}: expected a private gallery, got a list")
            yield session

    def _run(self, reveal: Reveal) -> GalleryRun:
        settings = self.settings
        return GalleryRun(
            model=self.server.model.name,
            timeout=settings.timeout,
            reveal=reveal,
            correlations=settings.correlations,
            prepared=existing_prepared_path(settings.prepared, self.server.name),
            key=self.key,
            **of_photos(settings),
        )

    def expect_right(self, verb: Verb) -> None:
        """Check, before anything is computed, that the server lets this client do something.

        Raises:
            ParameterError: it does not.
        """
        self.server.expect_right(Right(verb))

    def make_key(self) -> bool:
        """Make the key of a private gallery if it is missing; return whether it was."""
        if self.key is None or self.key.exists():
            return False
        make_folder(self.key.parent)
        create_key(self.key)
        return True


def answers_of(settings: SessionSettings, tasks: Sequence[GalleryTask]) -> list[Answer]:
    """Do tasks with the gallery that the options name; return the answers."""
    with remote_gallery(settings) as gallery:
        return gallery.do(tasks).answers


@contextmanager
def remote_gallery(settings: SessionSettings) -> Iterator[RemoteGallery]:
    """Give the gallery that `--server` and `--gallery` name.

    Raises:
        ParameterError: there is no such gallery, or a list and a key.
    """
    with settings.parties() as server:
        if not isinstance(server, RemoteServer):
            raise ParameterError("expected --server")
        found = server.use_gallery(str(settings.gallery) if settings.gallery else None)
        name = server.gallery or ""
        if found.kind is GalleryKind.LIST and settings.key:
            raise ParameterError(f"{name}: expected no --key, since a list has none")
        key = None if found.kind is GalleryKind.LIST else settings.key or server.usual_key
        yield RemoteGallery(server, name, found.kind, key, settings)
