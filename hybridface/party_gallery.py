"""Client and server of a private gallery, as ranks: the client does tasks from a file, the server holds the store."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ImageError
from hybridface.events import Events
from hybridface.exit_status import EXIT_DIFFERENT, EXIT_SAME
from hybridface.gallery import index_folder
from hybridface.gallery_tasks import Task, Verb, read_tasks
from hybridface.hybrid_terms import hybrid_terms
from hybridface.models import Model
from hybridface.party_options import PartyOptions
from hybridface.photo_input import load_images
from parties.gallery.client import GalleryClientSession
from parties.gallery.errors import QueryRefusedError
from parties.gallery.key import read_key
from parties.gallery.limits import IDENTIFY, VERIFY, QueryLimits
from parties.gallery.records import Kind
from parties.gallery.server import GalleryServerSession
from parties.gallery.shard_rank import ShardRank
from parties.gallery.store import GalleryStore
from parties.roles import Role
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import ParameterError
from protocols.mpc import CLIENT, SERVER

__all__ = ["run_client", "run_server", "run_shard"]

Answer = dict[str, Any]


def run_client(channels: dict[Role, Channel], shards: list[Channel], options: PartyOptions, events: Events) -> int:
    """Do the tasks in order, and say what came of each; return the exit status of the last."""
    if options.tasks is None or options.key is None:
        raise ParameterError("expected tasks and a key file for a gallery")
    model = options.model()
    terms = hybrid_terms(model, options.reveal)
    peers = channels[Role.SERVER], channels[Role.DEALER]
    folder = index_folder(options.key)
    status = EXIT_SAME
    with GalleryClientSession(
        *peers, terms, events.on_progress, key=read_key(options.key), index_folder=folder, shards=shards
    ) as session:
        for task in read_tasks(options.tasks):
            answer = _do(session, task, model, options.aligned)
            events.say("answer", verb=task.verb.value, identity=task.identity, photo=task.photo, **answer)
            status = EXIT_DIFFERENT if answer.get("match") is False or "refused" in answer else EXIT_SAME
    return status


def run_server(channels: dict[Role, Channel], shards: list[Channel], options: PartyOptions, events: Events) -> int:
    """Serve one client's session about the gallery."""
    model = options.model()
    if model.weights is None or options.gallery is None:
        raise ParameterError("expected a model with weights and a gallery's file")
    terms = hybrid_terms(model, options.reveal)
    path, (dimension,) = options.gallery, model.graph.output_shape
    rates = (VERIFY, IDENTIFY) if options.limits else (None, None)
    with (
        GalleryStore(path, model.graph.digest(), dimension, Kind.PRIVATE) as store,
        QueryLimits(path, *rates) as limits,
    ):
        session = GalleryServerSession(
            channels[Role.CLIENT],
            channels[Role.DEALER],
            terms,
            model.weights,
            events.on_progress,
            options.cache,
            store=store,
            limits=limits,
            client_name=options.client_name,
            index_folder=index_folder(path),
            shards=shards,
        )
        session.serve()
    return EXIT_SAME


def run_shard(role: Role, channels: dict[Role, Channel], options: PartyOptions) -> int:
    """Search one shard of the gallery for its party, or deal to those who do."""
    if role is Role.DEALER_SHARD:
        Dealer(channels[Role.CLIENT_SHARD], channels[Role.SERVER_SHARD]).serve()
        return EXIT_SAME
    file, peer = {
        Role.CLIENT_SHARD: (options.key, Role.SERVER_SHARD),
        Role.SERVER_SHARD: (options.gallery, Role.CLIENT_SHARD),
    }[role]
    if file is None:
        raise ParameterError("expected the key's or the gallery's file, beside which the index is kept")
    rank = CLIENT if role is Role.CLIENT_SHARD else SERVER
    ranks = channels[role.party], channels[peer], channels[Role.DEALER_SHARD]
    ShardRank(rank, *ranks, index_folder(file)).serve()
    return EXIT_SAME


def _do(session: GalleryClientSession, task: Task, model: Model, aligned: bool) -> Answer:
    """Do one task; return what came of it."""
    try:
        return _VERBS[task.verb](session, task, lambda: load_images(model, [Path(task.photo or "")], aligned))
    except QueryRefusedError as error:
        return {"refused": str(error), "retry_after": error.retry_after_seconds}
    except ImageError as error:
        if not task.optional:
            raise
        return {"unusable": str(error)}


Image = Callable[[], NDArray[np.float64]]


def _enroll(session: GalleryClientSession, task: Task, image: Image) -> Answer:
    return {"cost": session.enroll_identity(task.identity or "", image()).document()}


def _verify(session: GalleryClientSession, task: Task, image: Image) -> Answer:
    result = session.verify_identity(task.identity or "", image())
    return {"match": result.match, "cost": result.cost.document()}


def _identify(session: GalleryClientSession, task: Task, image: Image) -> Answer:
    probe = image()
    index = session.update_index()
    result = session.identify(probe, task.top)
    return {
        "identities": list(result.identities),
        "match": result.identity is not None,
        "cost": result.cost.document(),
        "index": asdict(index.offline),
    }


def _list(session: GalleryClientSession, task: Task, image: Image) -> Answer:
    return {"enrolled": session.list_identities()}


def _remove(session: GalleryClientSession, task: Task, image: Image) -> Answer:
    return {"removed": session.remove_identities([task.identity or ""])}


def _rotate(session: GalleryClientSession, task: Task, image: Image) -> Answer:
    return {"generation": session.rotate_key(read_key(Path(task.key or "")))}


_VERBS: dict[Verb, Callable[[GalleryClientSession, Task, Image], Answer]] = {
    Verb.ENROLL: _enroll,
    Verb.VERIFY: _verify,
    Verb.IDENTIFY: _identify,
    Verb.LIST: _list,
    Verb.REMOVE: _remove,
    Verb.ROTATE: _rotate,
}
