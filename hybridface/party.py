"""One rank of a computation between processes: join MPI as client, server or dealer, do its part, end cleanly.

A rank that fails says why on one line, tells its peers (which then end with that reason), and ends all ranks with exit
status 2: nothing is left waiting.
"""

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hybridface.exit_status import EXIT_DIFFERENT, EXIT_ERROR, EXIT_SAME
from hybridface.models import Model
from hybridface.report import cost_table, decision_text, result_document
from hybridface.session import load_images
from parties.calibration import calibration_path, load_calibration
from parties.client import ClientSession, MatchResult
from parties.mpi import DEFAULT_TIMEOUT, World, is_first_rank, join
from parties.progress import Progress
from parties.roles import Role
from parties.server import ServerSession
from parties.terms import Terms
from parties.tuning import tune_process
from parties.worker import Worker
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, reason_for_peers
from protocols.graph import Weights
from protocols.matching import Reveal
from protocols.network_profile import NONE, NetworkProfile

__all__ = ["PartyOptions", "run_party"]

_EVENT_LOCK = threading.Lock()
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
        network: to simulate; the same for all ranks.
        batch: verify so many copies of the photo at once against the template (only with `enrolled`).
        pool: verifications that the client keeps prepared in the background.
        pause: seconds between verifications.
        cache: where server and workers keep encoded weights; None to encode them anew.
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
    batch: int = 1
    pool: int = 0
    pause: float = 0.0
    cache: Path | None = None


def run_party(role: Role, options: PartyOptions) -> int:
    """Run one rank to its end, and return its exit status."""
    torch.set_num_threads(1)
    tune_process()
    try:
        world = join(role, options.timeout, options.network)
    except HybridFaceError as error:
        if is_first_rank():
            _say_error(role, str(error), options)
        return EXIT_ERROR
    channels = _channels(world, role)
    workers = world.workers() if role is Role.SERVER else []
    everybody = [*channels.values(), *workers]
    try:
        status = _work(role, channels, workers, options)
        for channel in everybody:
            channel.close()
    except HybridFaceError as error:
        _say_error(role, str(error), options, from_peer=isinstance(error, PeerLostError))
        return _fail(error, world, everybody)
    except Exception as error:
        _say_error(role, f"internal error: {type(error).__name__}: {error}", options)
        return _fail(error, world, everybody)
    _event(options, "memory", role=role.value, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return status


def _channels(world: World, role: Role) -> dict[Role, Channel]:
    if role is Role.WORKER:
        return {Role.SERVER: world.server_of_worker()}
    return {peer: world.channel(peer) for peer in (Role.CLIENT, Role.SERVER, Role.DEALER) if peer is not role}


def _work(role: Role, channels: dict[Role, Channel], workers: list[Channel], options: PartyOptions) -> int:
    match role:
        case Role.CLIENT:
            return _client(channels, options)
        case Role.SERVER:
            return _server(channels, workers, options)
        case Role.DEALER:
            Dealer(channels[Role.CLIENT], channels[Role.SERVER]).serve()
        case Role.WORKER:
            _worker(channels[Role.SERVER], options)
    return EXIT_SAME


def _client(channels: dict[Role, Channel], options: PartyOptions) -> int:
    model = options.model()
    if len(options.photos) != 2:
        raise ParameterError(f"expected two photos, got {len(options.photos)}")
    images = load_images(model, list(options.photos), options.aligned)
    terms = Terms(model.graph, model.threshold, options.reveal)

    def report(progress: Progress) -> None:
        _event(options, "progress", role=Role.CLIENT.value, **asdict(progress))

    if options.batch > 1 and not options.enrolled:
        raise ParameterError("expected an enrolled template to verify a batch of photos against")
    if options.pool and (options.batch > 1 or not options.enrolled):
        raise ParameterError("a pool holds verifications of one photo against an enrolled template, expected such ones")
    matches: tuple[bool | None, ...] = ()
    with ClientSession(channels[Role.SERVER], channels[Role.DEALER], terms, report, options.pool) as session:
        template = session.enroll("enrolled", images[1:]) if options.enrolled else None
        batch = np.repeat(images[:1], options.batch, axis=0)
        for index in range(options.repeat):
            if index:
                time.sleep(options.pause)
            result = session.verify(batch, template) if template else session.verify_pair(images)
            matches = result.matches
            _say_result(result, model, options)
            _event(options, "resident", role=Role.CLIENT.value, bytes=_resident_bytes())
    return EXIT_DIFFERENT if False in matches else EXIT_SAME


def _server(channels: dict[Role, Channel], workers: list[Channel], options: PartyOptions) -> int:
    terms, weights = _terms_and_weights(options)

    def report(progress: Progress) -> None:
        _event(options, "progress", role=Role.SERVER.value, **asdict(progress))

    def done() -> None:
        _event(options, "resident", role=Role.SERVER.value, bytes=_resident_bytes())

    client, dealer = channels[Role.CLIENT], channels[Role.DEALER]
    cost = load_calibration(options.cache and calibration_path(options.cache), options.network)
    session = ServerSession(client, dealer, terms, weights, report, options.cache, workers, cost)
    session.serve(done)
    known = [match for match in session.last_decisions if match is not None]
    decision = all(known) if known else None
    if decision is not None:
        _event(options, "decision", role=Role.SERVER.value, match=decision)
        if not options.events:
            sys.stdout.write(f"server: {decision_text(decision)}\n")
    return EXIT_DIFFERENT if decision is False else EXIT_SAME


def _worker(server: Channel, options: PartyOptions) -> None:
    terms, weights = _terms_and_weights(options)
    Worker(server, terms, weights, options.cache).serve()


def _terms_and_weights(options: PartyOptions) -> tuple[Terms, Weights]:
    model = options.model()
    if model.weights is None:
        raise ParameterError(f"expected a model with weights, got {model.name} without")
    return Terms(model.graph, model.threshold, options.reveal), model.weights


def _say_result(result: MatchResult, model: Model, options: PartyOptions) -> None:
    if options.events:
        _event(options, "result", **result_document(result, model, options.reveal.value))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    for match in result.matches:
        console.print(decision_text(match), style="bold")
    console.print(cost_table(result.cost, model))


def _fail(error: Exception, world: World, channels: Sequence[Channel]) -> int:
    """Tell the peers why this rank ends, and end all ranks, after those that merely follow had time to say so."""
    message = reason_for_peers(error)
    for channel in channels:
        channel.send_error(message)
    time.sleep(_FOLLOWER_SECONDS if isinstance(error, PeerLostError) else _GRACE_SECONDS)
    world.abort(EXIT_ERROR)
    return EXIT_ERROR


def _say_error(role: Role, message: str, options: PartyOptions, from_peer: bool = False) -> None:
    _event(options, "error", role=role.value, message=message, from_peer=from_peer)
    if not options.events:
        sys.stderr.write(f"hybridface {role.value}: {message}\n")
        sys.stderr.flush()


def _resident_bytes() -> int:
    """Return the memory that this process has resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _event(options: PartyOptions, event: str, **fields: Any) -> None:
    if not options.events:
        return
    with _EVENT_LOCK:  # the background task reports its progress too
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()
