"""Client, server and worker of the hybrid computation, as ranks."""

import sys
import time
from dataclasses import asdict

import numpy as np
from rich.console import Console

from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from hybridface.output.cost import cost_table, decision_text, result_document
from hybridface.output.terminal import width
from hybridface.processes.events import Events
from hybridface.processes.inputs import ClientInputs
from hybridface.processes.memory import resident_bytes
from hybridface.processes.runs import HybridRun, PreparationRun, SharedRun
from parties.machine.calibration import calibration_path, load_calibration
from parties.prepared.store import opened_store
from parties.session.client import ClientSession, MatchResult
from parties.session.client_endpoint import SETUP_STAGE
from parties.session.server import ServerSession
from parties.session.worker import Worker
from parties.transport.roles import Role
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal
from protocols.network.graph import Weights

__all__ = ["prepare", "run_client", "run_server", "run_worker"]


def run_client(channels: dict[Role, Channel], run: HybridRun, own: ClientInputs, events: Events) -> int:
    """Verify, and return the exit status."""
    model, images = own.model, own.images
    terms = hybrid_terms(model, run.reveal, run.correlations)
    matches: tuple[bool | None, ...] = ()
    peers = channels[Role.SERVER], channels.get(Role.DEALER)
    shown = events.on_progress
    with ClientSession(*peers, terms, on_progress=shown, pool=run.pool, prepared=opened_store(run.prepared)) as session:
        template = session.enroll("enrolled", images[1:]) if run.enrolled else None
        for stage in template.cost.stages if template else ():
            if stage.stage == SETUP_STAGE:
                events.say("setup", **asdict(stage))
        batch = np.repeat(images[:1], run.batch, axis=0)
        for index in range(run.repeat):
            if index:
                time.sleep(run.pause)
            result = session.verify(batch, template) if template else session.verify_pair(images)
            matches = result.matches
            _say_result(result, model, run.reveal, events)
            events.say("resident", role=Role.CLIENT.value, bytes=resident_bytes())
    return EXIT_DIFFERENT if False in matches else EXIT_SAME


def prepare(channels: dict[Role, Channel], run: PreparationRun, model: Model, events: Events) -> int:
    """Prepare runs, and keep them for later sessions."""
    terms = hybrid_terms(model, run.reveal, run.correlations)
    peers = channels[Role.SERVER], channels.get(Role.DEALER)
    shape = run.purpose.shape
    with ClientSession(*peers, terms, on_progress=events.on_progress, prepared=opened_store(run.prepared)) as session:
        for number in range(run.count):
            cost = session.save_prepared(shape.images, shape.decisions)
            events.say("kept", number=number + 1, cost=cost.document())
            if not events.shown:
                sys.stdout.write(f"kept {number + 1} of {run.count}\n")
    return EXIT_SAME


def run_server(
    channels: dict[Role, Channel], workers: list[Channel], run: SharedRun, model: Model, events: Events
) -> int:
    """Serve one client to the end of its session; return the exit status of the decision, if the server learns it."""
    terms, weights = hybrid_terms(model, run.reveal, run.correlations), _weights(model)

    def done() -> None:
        events.say("resident", role=Role.SERVER.value, bytes=resident_bytes())

    client, dealer = channels[Role.CLIENT], channels.get(Role.DEALER)
    cost = load_calibration(run.cache and calibration_path(run.cache), run.link)
    session = ServerSession(
        client,
        dealer,
        terms,
        weights,
        on_progress=events.on_progress,
        cache=run.cache,
        workers=workers,
        cost=cost,
        prepared=opened_store(run.prepared),
    )
    session.serve(done, events.command)
    known = [match for match in session.last_decisions if match is not None]
    decision = all(known) if known else None
    if decision is not None:
        events.say("decision", role=Role.SERVER.value, match=decision)
        if not events.shown:
            sys.stdout.write(f"server: {decision_text(decision)}\n")
    return EXIT_DIFFERENT if decision is False else EXIT_SAME


def run_worker(server: Channel, run: SharedRun, model: Model) -> int:
    """Multiply for the server until it ends."""
    Worker(server, hybrid_terms(model, run.reveal, run.correlations), _weights(model), run.cache).serve()
    return EXIT_SAME


def _weights(model: Model) -> Weights:
    if model.weights is None:
        raise ParameterError(f"expected a model with weights, got {model.name} without")
    return model.weights


def _say_result(result: MatchResult, model: Model, reveal: Reveal, events: Events) -> None:
    if events.shown:
        events.say("result", **result_document(result, model, reveal.value))
        return
    console = Console(width=width())
    for match in result.matches:
        console.print(decision_text(match), style="bold")
    console.print(cost_table(result.cost, model))
