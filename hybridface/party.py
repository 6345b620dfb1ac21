"""One rank of a computation between processes: join MPI as client, server or dealer, do its part, end cleanly.

A rank that fails says why on one line, tells its peers (which then end with that reason), and ends all ranks with exit
status 2: nothing is left waiting.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hybridface.exit_status import EXIT_DIFFERENT, EXIT_ERROR, EXIT_SAME
from hybridface.models import Model
from hybridface.report import cost_table, decision_text, result_document
from hybridface.session import load_images
from parties.client import ClientSession, MatchResult
from parties.mpi import DEFAULT_TIMEOUT, World, is_first_rank, join
from parties.progress import Progress
from parties.roles import Role
from parties.server import ServerSession
from parties.terms import Terms
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, reason_for_peers
from protocols.matching import Reveal
from protocols.network_profile import NONE, NetworkProfile

__all__ = ["PartyOptions", "run_party"]

_GRACE_SECONDS, _FOLLOWER_SECONDS = 1.0, 4.0  # one rank ends all: the one that failed first


@dataclass(frozen=True)
class PartyOptions:
    """What a rank is to do.

    Args:
        model: for the server with weights, for the client without.
        photos: the client's two photos.
        aligned: they are aligned chips.
        enrolled: enrol the second photo first, and verify the first against that template.
        repeat: verify so many times.
        reveal: who learns the decision; the same on both sides.
        events: write JSON lines to standard output, for the command that started the ranks.
        timeout: seconds to wait for a peer.
        network: to simulate; the same for all three ranks.
    """

    model: Callable[[], Model]
    photos: tuple[Path, ...] = ()
    aligned: bool = False
    enrolled: bool = False
    repeat: int = 1
    reveal: Reveal = Reveal.CLIENT
    events: bool = False
    timeout: float = DEFAULT_TIMEOUT
    network: NetworkProfile = NONE


def run_party(role: Role, options: PartyOptions) -> int:
    """Run one rank to its end, and return its exit status."""
    torch.set_num_threads(1)
    try:
        world = join(role, options.timeout, options.network)
    except HybridFaceError as error:
        if is_first_rank():
            _say_error(role, str(error), options)
        return EXIT_ERROR
    channels = {peer: world.channel(peer) for peer in Role if peer is not role}
    try:
        status = {Role.CLIENT: _client, Role.SERVER: _server, Role.DEALER: _dealer}[role](channels, options)
        for channel in channels.values():
            channel.close()
    except HybridFaceError as error:
        _say_error(role, str(error), options, from_peer=isinstance(error, PeerLostError))
        return _fail(error, world, channels)
    except Exception as error:
        _say_error(role, f"internal error: {type(error).__name__}: {error}", options)
        return _fail(error, world, channels)
    _event(options, "memory", role=role.value, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return status


def _client(channels: dict[Role, Channel], options: PartyOptions) -> int:
    model = options.model()
    if len(options.photos) != 2:
        raise ParameterError(f"expected two photos, got {len(options.photos)}")
    images = load_images(model, list(options.photos), options.aligned)
    terms = Terms(model.graph, model.threshold, options.reveal)

    def report(progress: Progress) -> None:
        _event(options, "progress", role=Role.CLIENT.value, **asdict(progress))

    match = None
    with ClientSession(channels[Role.SERVER], channels[Role.DEALER], terms, report) as session:
        template = session.enroll("enrolled", images[1:]) if options.enrolled else None
        for _ in range(options.repeat):
            result = session.verify(images[:1], template) if template else session.verify_pair(images)
            match = result.match
            _say_result(result, model, options)
    return EXIT_DIFFERENT if match is False else EXIT_SAME


def _server(channels: dict[Role, Channel], options: PartyOptions) -> int:
    model = options.model()
    if model.weights is None:
        raise ParameterError(f"expected a model with weights, got {model.name} without")
    terms = Terms(model.graph, model.threshold, options.reveal)

    def report(progress: Progress) -> None:
        _event(options, "progress", role=Role.SERVER.value, **asdict(progress))

    session = ServerSession(channels[Role.CLIENT], channels[Role.DEALER], terms, model.weights, report)
    session.serve()
    decision = session.decisions[-1] if session.decisions else None
    if decision is not None:
        _event(options, "decision", role=Role.SERVER.value, match=decision)
        if not options.events:
            sys.stdout.write(f"server: {decision_text(decision)}\n")
    return EXIT_DIFFERENT if decision is False else EXIT_SAME


def _dealer(channels: dict[Role, Channel], options: PartyOptions) -> int:
    Dealer(channels[Role.CLIENT], channels[Role.SERVER]).serve()
    return EXIT_SAME


def _say_result(result: MatchResult, model: Model, options: PartyOptions) -> None:
    if options.events:
        _event(options, "result", **result_document(result.match, model, options.reveal.value, result.cost))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(decision_text(result.match), style="bold")
    console.print(cost_table(result.cost, model))


def _fail(error: Exception, world: World, channels: dict[Role, Channel]) -> int:
    """Tell the peers why this rank ends, and end all ranks, after those that merely follow had time to say so."""
    message = reason_for_peers(error)
    for channel in channels.values():
        channel.send_error(message)
    time.sleep(_FOLLOWER_SECONDS if isinstance(error, PeerLostError) else _GRACE_SECONDS)
    world.abort(EXIT_ERROR)
    return EXIT_ERROR


def _say_error(role: Role, message: str, options: PartyOptions, from_peer: bool = False) -> None:
    _event(options, "error", role=role.value, message=message, from_peer=from_peer)
    if not options.events:
        sys.stderr.write(f"hybridface {role.value}: {message}\n")
        sys.stderr.flush()


def _event(options: PartyOptions, event: str, **fields: Any) -> None:
    if options.events:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()
