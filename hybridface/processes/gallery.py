"""Client and server of a gallery, as ranks: the client does tasks from a file, the server holds the store.

A client with a key uses a private gallery; a client without a key uses a list. A list only answers queries: its owner
enrols and removes people in the file. A server that learns an outcome reports it.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME, ImageError, ModelError
from hybridface.faces.inputs import load_images
from hybridface.galleries.file import GalleryFile, index_folder
from hybridface.galleries.following import change_key, rename_identity
from hybridface.galleries.import_journal import RecordBusyError
from hybridface.galleries.tasks import GalleryTask, Verb, together
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from hybridface.output.answers import answer_text, names_text, shown
from hybridface.output.cost import decision_text
from hybridface.processes.events import Events
from hybridface.processes.inputs import ClientInputs
from hybridface.processes.runs import GalleryRun
from parties.gallery.errors import QueryRefusedError
from parties.gallery.index.search import PROBE
from parties.gallery.key import read_key
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions.client import GalleryClientSession
from parties.gallery.sessions.list_client import ListClientSession
from parties.gallery.sessions.list_server import ListServerSession
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.gallery.sessions.private_server import PrivateServerSession
from parties.gallery.sessions.server import GalleryQueries, GalleryServerSession
from parties.gallery.shards.rank import ShardRank
from parties.prepared.store import opened_store
from parties.session.client_endpoint import ClientEndpoint
from parties.session.server_endpoint import ServerEndpoint
from parties.transport.roles import Role
from protocols.channel import CLIENT, SERVER, Channel
from protocols.correlations import Dealer
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal

__all__ = ["client_session", "run_client", "run_server", "run_shard"]

Answer = dict[str, Any]


def run_client(
    channels: dict[Role, Channel], shards: list[Channel], run: GalleryRun, own: ClientInputs, events: Events
) -> int:
    """Do the tasks in order, and report the result of each; return the exit status of the last."""
    if run.key is None:
        _expect_no_shards(shards)
    status = EXIT_SAME
    with client_session(channels, shards, run, own.model, events) as session:
        for tasks in together(own.tasks):
            for task, done in zip(tasks, _do(session, tasks, own.model, run), strict=True):
                answer = {"verb": task.verb.value, "identity": task.identity, "photo": task.photo, **done}
                events.say("answer", **answer)
                if not events.shown:
                    sys.stdout.write(f"{answer_text(answer)}\n")
                if "generation" in answer:
                    run = replace(run, key=Path(task.key or ""))
                status = EXIT_DIFFERENT if answer.get("match") is False or "refused" in answer else EXIT_SAME
    return status


def run_server(
    channels: dict[Role, Channel], shards: list[Channel], run: GalleryRun, model: Model, events: Events
) -> int:
    """Serve one client's gallery session; return the exit status of the server's last outcome, if it learned one."""
    if model.weights is None or run.gallery is None:
        raise ParameterError("expected a model with weights and a gallery's file")
    with GalleryFile(run.gallery, model, limits=run.limits, new=run.new_gallery) as file:
        if file.kind is GalleryKind.LIST:
            _expect_no_shards(shards)
        session = _server_session(channels, shards, run, model, file, events)
        said = _Outcomes(session, run.reveal, events)
        session.serve(said.say, events.command)
    return said.status


def run_shard(role: Role, channels: dict[Role, Channel], run: GalleryRun) -> int:
    """Search one shard of the gallery for its party, or deal correlations to the ranks that do."""
    if role is Role.DEALER_SHARD:
        Dealer(channels[Role.CLIENT_SHARD], channels[Role.SERVER_SHARD]).serve()
        return EXIT_SAME
    file, peer = {
        Role.CLIENT_SHARD: (run.key, Role.SERVER_SHARD),
        Role.SERVER_SHARD: (run.gallery, Role.CLIENT_SHARD),
    }[role]
    if file is None:
        raise ParameterError("expected the key's or the gallery's file: the index is beside it")
    rank = CLIENT if role is Role.CLIENT_SHARD else SERVER
    ranks = channels[role.party], channels[peer], channels.get(Role.DEALER_SHARD)
    ShardRank(rank, *ranks, index_folder(file), run.correlations).serve()
    return EXIT_SAME


def client_session(
    channels: dict[Role, Channel], shards: list[Channel], run: GalleryRun, model: Model, events: Events
) -> GalleryClientSession:
    """Return the client's session with a gallery: with a key, a private one."""
    endpoint = ClientEndpoint(
        channels[Role.SERVER],
        channels.get(Role.DEALER),
        hybrid_terms(model, run.reveal, run.correlations),
        on_progress=events.on_progress,
        refilled=PROBE,
        prepared=opened_store(run.prepared),
    )
    if run.key is None:
        return ListClientSession(endpoint)
    return PrivateClientSession(endpoint, read_key(run.key), index_folder(run.key), shards)


def _server_session(
    channels: dict[Role, Channel],
    shards: list[Channel],
    run: GalleryRun,
    model: Model,
    file: GalleryFile,
    events: Events,
) -> GalleryServerSession:
    if model.weights is None:
        raise ModelError(f"expected a model with weights, got {model.name} without")
    endpoint = ServerEndpoint(
        channels[Role.CLIENT],
        channels.get(Role.DEALER),
        hybrid_terms(model, run.reveal, run.correlations),
        model.weights,
        on_progress=events.on_progress,
        cache=run.cache,
        prepared=opened_store(run.prepared),
    )
    queries = GalleryQueries(file.store, file.limits, run.client_name, run.may)
    if file.kind is GalleryKind.LIST:
        return ListServerSession(endpoint, queries)
    return PrivateServerSession(endpoint, queries, index_folder(file.store.path), shards)


def _expect_no_shards(shards: list[Channel]) -> None:
    if shards:
        raise ParameterError(f"expected one part for a list, which has no shards, got {1 + len(shards)}")


class _Outcomes:
    """Report what the server learns from the queries of its session.

    Args:
        session: the server's side.
    """

    def __init__(self, session: GalleryServerSession, reveal: Reveal, events: Events) -> None:
        self._session, self._reveal, self._events = session, reveal, events
        self.status = EXIT_SAME

    def say(self) -> None:
        """Report what the server learned from the last command, if it learned anything."""
        session = self._session
        if self._reveal is Reveal.CLIENT:
            return
        for match in session.last_decisions:
            who = "" if session.last_asked is None else f": {shown(session.last_asked)}"
            document: dict[str, Any] = {"event": "decision", "match": match, "identity": session.last_asked}
            self._tell(document, decision_text(match) + who, match is True)
        if names := session.last_identities:
            document = {"event": "identified", "identities": list(names)}
            self._tell(document, names_text(names).replace("\n", ", "), any(name is not None for name in names))

    def _tell(self, document: dict[str, Any], text: str, found: bool) -> None:
        self.status = EXIT_SAME if found else EXIT_DIFFERENT
        self._events.say(**document, role=Role.SERVER.value)
        if not self._events.shown:
            sys.stdout.write(f"server: {text}\n")
            sys.stdout.flush()


def _do(session: GalleryClientSession, tasks: list[GalleryTask], model: Model, run: GalleryRun) -> list[Answer]:
    """Do tasks that belong together, all or none; return the result of each."""
    task = tasks[0]
    try:
        work = _verbs(run)[task.verb]
        answer = work(session, task, lambda: np.concatenate([_image(one, model, run) for one in tasks]))
    except QueryRefusedError as error:
        answer = {"refused": str(error), "retry_after": error.retry_after_seconds}
    except ImageError as error:
        if not task.optional:
            raise
        answer = {"unusable": str(error)}
    rows = answer.pop("rows", None)
    return [{**answer, "row": row} for row in rows] if rows else [answer] * len(tasks)


def _image(task: GalleryTask, model: Model, run: GalleryRun) -> NDArray[np.float64]:
    """Return a task's photo, float64 (1, C, H, W)."""
    if task.chip is not None:
        return load_images(model, [Path(task.chip)], aligned=True)
    return load_images(model, [Path(task.photo or "")], run.aligned, run.reading)


Image = Callable[[], NDArray[np.float64]]


def _verify(session: GalleryClientSession, task: GalleryTask, image: Image) -> Answer:
    result = session.verify_identity(task.identity or "", image())
    return {"match": result.match, "cost": result.cost.document()}


def _identify(session: GalleryClientSession, task: GalleryTask, image: Image) -> Answer:
    probe = image()
    index = session.update_index()
    result = session.identify(probe, task.top)
    return {
        "identities": list(result.identities),
        "match": None if session.terms.reveal is Reveal.SERVER else result.identity is not None,
        "cost": result.cost.document(),
        "index": asdict(index.offline),
    }


def _enroll(session: PrivateClientSession, task: GalleryTask, images: Image) -> Answer:
    done = session.enroll_identity(task.identity or "", images())
    return {"rows": done.rows, "cost": done.cost.document()}


def _rename(run: GalleryRun, session: PrivateClientSession, task: GalleryTask, _: Image) -> Answer:
    rename_identity(session, run.key or Path(), task.identity or "", task.name or "")
    return {"renamed": task.name}


def _rotate(run: GalleryRun, session: PrivateClientSession, task: GalleryTask, _: Image) -> Answer:
    new = Path(task.key or "")
    try:
        return {"generation": change_key(session, run.key or Path(), new, read_key(new), run.reading.on_warning)}
    except RecordBusyError as error:
        return {"refused": str(error)}


def _private(work: Callable[[PrivateClientSession, GalleryTask, Image], Answer]) -> Callable[..., Answer]:
    """Return the function of a verb, which then refuses every gallery that is not private."""

    def checked(session: GalleryClientSession, task: GalleryTask, image: Image) -> Answer:
        if not isinstance(session, PrivateClientSession):
            raise ParameterError(f"expected verify or identify for a list, got {task.verb}: only its owner does that")
        return work(session, task, image)

    return checked


def _verbs(run: GalleryRun) -> dict[Verb, Callable[..., Answer]]:
    """Return the function of each verb."""
    return {
        Verb.ENROLL: _private(_enroll),
        Verb.VERIFY: _verify,
        Verb.IDENTIFY: _identify,
        Verb.LIST: _private(lambda session, task, image: {"enrolled": session.list_identities()}),
        Verb.REMOVE: _private(lambda session, task, _: {"removed": session.remove_identities([task.identity or ""])}),
        Verb.RENAME: _private(partial(_rename, run)),
        Verb.ROTATE: _private(partial(_rotate, run)),
    }
