"""One rank of a computation between processes: join MPI as client, server or dealer, do its part, end cleanly.

A rank that fails says why on one line, tells its peers (which then end with that reason), and ends all ranks with exit
status 2: nothing is left waiting.
"""

import os
import resource
import sys
import time
from collections.abc import Sequence

import torch

from hybridface.errors import EXIT_ERROR, EXIT_SAME
from hybridface.modes import Mode
from hybridface.processes import gallery as party_gallery
from hybridface.processes import hybrid as party_hybrid
from hybridface.processes import pure_he as party_pure_he
from hybridface.processes.events import Events
from hybridface.processes.options import PartyOptions
from parties.machine.tuning import tune_process
from parties.transport.mpi import World, is_first_rank, join
from parties.transport.roles import SHARD_ROLES, Role
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, reason_for_peers

__all__ = ["PartyOptions", "roles_of", "run_party"]

_GRACE_SECONDS, _FOLLOWER_SECONDS = 1.0, 4.0  # one rank ends all: the one that failed first


def roles_of(options: PartyOptions) -> tuple[Role, ...]:
    """Return the ranks that take part, one each; workers and shards besides."""
    dealt = options.mode is Mode.HYBRID and options.correlations.needs_dealer
    return (Role.CLIENT, Role.SERVER, Role.DEALER) if dealt else (Role.CLIENT, Role.SERVER)


def run_party(role: Role, options: PartyOptions) -> int:
    """Run one rank to its end, and return its exit status."""
    torch.set_num_threads(1)
    tune_process()
    events = Events(role, options.events)
    events.say("started", role=role.value, pid=os.getpid())
    try:
        world = join(role, options.timeout, options.link, roles_of(options))
    except HybridFaceError as error:
        if is_first_rank():
            _say_error(events, str(error))
        return EXIT_ERROR
    channels = _channels(world, role, roles_of(options))
    workers = world.workers() if role is Role.SERVER else []
    shards = world.shards_of(role)
    everybody = [*channels.values(), *workers, *shards]
    try:
        status = _work(channels, workers, shards, options, events)
        for channel in everybody:
            channel.close()
    except HybridFaceError as error:
        _say_error(events, str(error), from_peer=isinstance(error, PeerLostError))
        return _fail(error, world, everybody)
    except Exception as error:
        _say_error(events, f"internal error: {type(error).__name__}: {error}")
        return _fail(error, world, everybody)
    events.say("memory", role=role.value, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return status


def _channels(world: World, role: Role, roles: Sequence[Role]) -> dict[Role, Channel]:
    if role is Role.WORKER:
        return {Role.SERVER: world.server_of_worker()}
    if role in SHARD_ROLES:
        return world.channels_of_shard()
    return {peer: world.channel(peer) for peer in roles if peer is not role}


def _work(
    channels: dict[Role, Channel],
    workers: list[Channel],
    shards: list[Channel],
    options: PartyOptions,
    events: Events,
) -> int:
    role = events.role
    if role in SHARD_ROLES:
        return party_gallery.run_shard(role, channels, options)
    if shards:
        _expect_private_gallery(role, options)
    if role in (Role.CLIENT, Role.SERVER) and options.mode is Mode.PURE_HE:
        party_pure_he.check_options(options, workers)
    if options.tasks and role is Role.CLIENT:
        return party_gallery.run_client(channels, shards, options, events)
    if options.gallery and role is Role.SERVER:
        return party_gallery.run_server(channels, shards, options, events)
    match role, options.mode:
        case Role.CLIENT, Mode.HYBRID:
            return party_hybrid.run_client(channels, options, events)
        case Role.SERVER, Mode.HYBRID:
            return party_hybrid.run_server(channels, workers, options, events)
        case Role.WORKER, Mode.HYBRID:
            return party_hybrid.run_worker(channels[Role.SERVER], options)
        case Role.DEALER, Mode.HYBRID:
            Dealer(channels[Role.CLIENT], channels[Role.SERVER]).serve()
            return EXIT_SAME
        case Role.CLIENT, _:
            return party_pure_he.run_client(channels[Role.SERVER], options, events)
        case Role.SERVER, _:
            return party_pure_he.run_server(channels[Role.CLIENT], options, events)
        case _:
            raise ParameterError(f"expected a client and a server in {options.mode.value} mode, got a {role.value}")


def _expect_private_gallery(role: Role, options: PartyOptions) -> None:
    """Check, on the client's and the server's own rank, that there is something for ranks of shards to search."""
    needed = {
        Role.CLIENT: (options.tasks and options.key, "--tasks and --key"),
        Role.SERVER: (options.gallery, "--gallery"),
    }
    if role in needed and not needed[role][0]:
        raise ParameterError(f"expected {needed[role][1]} with ranks of shards, which search a private gallery alone")


def _fail(error: Exception, world: World, channels: Sequence[Channel]) -> int:
    """Tell the peers why this rank ends, and end all ranks, after those that merely follow had time to say so."""
    message = reason_for_peers(error)
    for channel in channels:
        channel.send_error(message)
    time.sleep(_FOLLOWER_SECONDS if isinstance(error, PeerLostError) else _GRACE_SECONDS)
    world.abort(EXIT_ERROR)
    return EXIT_ERROR


def _say_error(events: Events, message: str, from_peer: bool = False) -> None:
    events.say("error", role=events.role.value, message=message, from_peer=from_peer)
    if not events.shown:
        sys.stderr.write(f"hybridface {events.role.value}: {message}\n")
        sys.stderr.flush()
