"""One rank of a run: join MPI as client, server, dealer, worker or a shard's rank, do its part, end cleanly.

A rank reads its own inputs (photos, weights, tasks) before it joins. If reading fails, no other rank is left waiting
for MPI.
"""

import os
import sys
from collections.abc import Sequence

import torch

from hybridface.errors import EXIT_ERROR, EXIT_SAME, told
from hybridface.models.model import Model
from hybridface.processes import gallery, hybrid, pure_he
from hybridface.processes.events import Events
from hybridface.processes.inputs import ClientInputs, read_inputs
from hybridface.processes.joined import run_joined
from hybridface.processes.memory import peak_bytes
from hybridface.processes.runs import GalleryRun, HybridRun, PreparationRun, PureHeRun, Run, SharedRun
from parties.transport.mpi import World
from parties.transport.mpi_library import abort_world
from parties.transport.roles import SHARD_ROLES, Role
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import ParameterError, PeerLostError

__all__ = ["roles_of", "run_rank"]

_ABORT_SECONDS = 5.0
"""How long a rank that cannot begin waits for the others in order to end them."""


def roles_of(run: Run) -> tuple[Role, ...]:
    """Return the roles that have one rank each; ranks of workers and shards may come on top."""
    dealt = isinstance(run, SharedRun) and run.correlations.needs_dealer
    return (Role.CLIENT, Role.SERVER, Role.DEALER) if dealt else (Role.CLIENT, Role.SERVER)


def run_rank(role: Role, run: Run, events: Events) -> int:
    """Run one rank to its end, and return its exit status."""
    torch.set_num_threads(1)
    events.say("started", role=role.value, pid=os.getpid())
    try:
        own = read_inputs(role, run)
    except Exception as error:
        try:
            _say_error(events, error)
        finally:
            abort_world(EXIT_ERROR, _ABORT_SECONDS)
        return EXIT_ERROR

    def work(world: World) -> int:
        status = _work(role, run, own, world, events)
        events.say("memory", role=role.value, peak_bytes=peak_bytes())
        return status

    return run_joined(
        role,
        work,
        lambda error: _say_error(events, error),
        required=roles_of(run),
        timeout=run.timeout,
        link=run.link,
    )


def _work(role: Role, run: Run, own: ClientInputs | Model | None, world: World, events: Events) -> int:
    channels, shards = _channels(world, role, roles_of(run)), world.shards_of(role)
    workers = world.workers() if role is Role.SERVER else []
    if shards:
        _expect_private_gallery(role, run)
    match role, run, own:
        case ((Role.CLIENT_SHARD | Role.SERVER_SHARD | Role.DEALER_SHARD), GalleryRun(), None):
            return gallery.run_shard(role, channels, run)
        case Role.DEALER, SharedRun(), None:
            Dealer(channels[Role.CLIENT], channels[Role.SERVER]).serve()
            return EXIT_SAME
        case Role.WORKER, SharedRun(), Model():
            return hybrid.run_worker(channels[Role.SERVER], run, own)
        case Role.CLIENT, GalleryRun(), ClientInputs():
            return gallery.run_client(channels, shards, run, own, events)
        case Role.SERVER, GalleryRun(), Model():
            _expect_no_workers("a gallery", workers)
            return gallery.run_server(channels, shards, run, own, events)
        case Role.CLIENT, PreparationRun(), ClientInputs():
            return hybrid.prepare(channels, run, own.model, events)
        case Role.CLIENT, HybridRun(), ClientInputs():
            return hybrid.run_client(channels, run, own, events)
        case Role.SERVER, SharedRun(), Model():
            return hybrid.run_server(channels, workers, run, own, events)
        case Role.CLIENT, PureHeRun(), ClientInputs():
            return pure_he.run_client(channels[Role.SERVER], run, own, events)
        case Role.SERVER, PureHeRun(), Model():
            _expect_no_workers("pure-HE mode", workers)
            return pure_he.run_server(channels[Role.CLIENT], run, own, events)
    raise ParameterError(f"expected a client and a server in {run.mode.value} mode, got a {role.value}")


def _expect_no_workers(what: str, workers: Sequence[Channel]) -> None:
    """Raise `ParameterError` if there are workers, since nobody has work for them."""
    if workers:
        raise ParameterError(f"expected no workers for {what}, got {len(workers)}")


def _channels(world: World, role: Role, roles: Sequence[Role]) -> dict[Role, Channel]:
    if role is Role.WORKER:
        return {Role.SERVER: world.server_of_worker()}
    if role in SHARD_ROLES:
        return world.channels_of_shard()
    return {peer: world.channel(peer) for peer in roles if peer is not role}


def _expect_private_gallery(role: Role, run: Run) -> None:
    """Check, on the client's and the server's own rank, that the ranks of shards have something to search."""
    about = run if isinstance(run, GalleryRun) else None
    needed = {
        Role.CLIENT: (about and about.tasks and about.key, "--tasks and --key"),
        Role.SERVER: (about and about.gallery, "--gallery"),
    }
    if role in needed and not needed[role][0]:
        raise ParameterError(f"expected {needed[role][1]} with ranks of shards: they search a private gallery only")


def _say_error(events: Events, error: Exception) -> None:
    message = told(error)
    events.say("error", role=events.role.value, message=message, from_peer=isinstance(error, PeerLostError))
    if not events.shown:
        sys.stderr.write(f"hybridface {events.role.value}: {message}\n")
        sys.stderr.flush()
