"""Client, server and worker of the hybrid computation, as ranks."""

import sys
import time
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.faces.inputs import load_images
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from hybridface.output.cost import cost_table, decision_text, result_document
from hybridface.output.terminal import width
from hybridface.processes.events import Events
from hybridface.processes.memory import resident_bytes
from hybridface.processes.options import PartyOptions
from parties.machine.calibration import calibration_path, load_calibration
from parties.session.client import ClientSession, MatchResult
from parties.session.client_endpoint import SETUP_STAGE
from parties.session.server import ServerSession
from parties.session.terms import Terms
from parties.session.worker import Worker
from parties.transport.roles import Role
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.network.graph import Weights

__all__ = ["photos_of", "run_client", "run_server", "run_worker"]


def run_client(channels: dict[Role, Channel], options: PartyOptions, events: Events) -> int:
    """Verify, and return the exit status."""
    model = options.model()
    if options.keep:
        return _keep(channels, options, model, events)
    images = photos_of(options, model)
    terms = hybrid_terms(model, options.reveal, options.correlations)
    if options.batch > 1 and not options.enrolled:
        raise ParameterError("expected an enrolled template to verify a batch of photos against")
    if options.pool and (options.batch > 1 or not options.enrolled):
        raise ParameterError("a pool holds verifications of one photo against an enrolled template, expected such ones")
    matches: tuple[bool | None, ...] = ()
    peers = channels[Role.SERVER], channels.get(Role.DEALER)
    shown = events.on_progress
    with ClientSession(*peers, terms, on_progress=shown, pool=options.pool, prepared=options.store) as session:
        template = session.enroll("enrolled", images[1:]) if options.enrolled else None
        for stage in template.cost.stages if template else ():
            if stage.stage == SETUP_STAGE:
                events.say("setup", **asdict(stage))
        batch = np.repeat(images[:1], options.batch, axis=0)
        for index in range(options.repeat):
            if index:
                time.sleep(options.pause)
            result = session.verify(batch, template) if template else session.verify_pair(images)
            matches = result.matches
            _say_result(result, model, options, events)
            events.say("resident", role=Role.CLIENT.value, bytes=resident_bytes())
    return EXIT_DIFFERENT if False in matches else EXIT_SAME


def _keep(channels: dict[Role, Channel], options: PartyOptions, model: Model, events: Events) -> int:
    """Prepare runs, and keep them for later sessions."""
    terms = hybrid_terms(model, options.reveal, options.correlations)
    peers = channels[Role.SERVER], channels.get(Role.DEALER)
    shape = options.keep_for.shape
    with ClientSession(*peers, terms, on_progress=events.on_progress, prepared=options.store) as session:
        for number in range(options.keep):
            cost = session.save_prepared(shape.images, shape.decisions)
            events.say("kept", number=number + 1, cost=cost.document())
            if not options.events:
                sys.stdout.write(f"kept {number + 1} of {options.keep}\n")
    return EXIT_SAME


def run_server(channels: dict[Role, Channel], workers: list[Channel], options: PartyOptions, events: Events) -> int:
    """Serve one client to the end of its session, and return the exit status: of the decision, if it is revealed."""
    terms, weights = _terms_and_weights(options)

    def done() -> None:
        events.say("resident", role=Role.SERVER.value, bytes=resident_bytes())

    client, dealer = channels[Role.CLIENT], channels.get(Role.DEALER)
    cost = load_calibration(options.cache and calibration_path(options.cache), options.link)
    session = ServerSession(
        client,
        dealer,
        terms,
        weights,
        on_progress=events.on_progress,
        cache=options.cache,
        workers=workers,
        cost=cost,
        prepared=options.store,
    )
    session.serve(done)
    known = [match for match in session.last_decisions if match is not None]
    decision = all(known) if known else None
    if decision is not None:
        events.say("decision", role=Role.SERVER.value, match=decision)
        if not options.events:
            sys.stdout.write(f"server: {decision_text(decision)}\n")
    return EXIT_DIFFERENT if decision is False else EXIT_SAME


def run_worker(server: Channel, options: PartyOptions) -> int:
    """Multiply for the server until it ends."""
    terms, weights = _terms_and_weights(options)
    Worker(server, terms, weights, options.cache).serve()
    return EXIT_SAME


def photos_of(options: PartyOptions, model: Model) -> NDArray[np.float64]:
    """Return the client's two photos as the network's inputs."""
    if len(options.photos) != 2:
        raise ParameterError(f"expected two photos, got {len(options.photos)}")
    return load_images(model, list(options.photos), options.aligned)


def _terms_and_weights(options: PartyOptions) -> tuple[Terms, Weights]:
    model = options.model()
    if model.weights is None:
        raise ParameterError(f"expected a model with weights, got {model.name} without")
    return hybrid_terms(model, options.reveal, options.correlations), model.weights


def _say_result(result: MatchResult, model: Model, options: PartyOptions, events: Events) -> None:
    if options.events:
        events.say("result", **result_document(result, model, options.reveal.value))
        return
    console = Console(width=width())
    for match in result.matches:
        console.print(decision_text(match), style="bold")
    console.print(cost_table(result.cost, model))
