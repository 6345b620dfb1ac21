"""Client and server of pure-HE mode, as ranks: no dealer, no workers."""

import time
from dataclasses import asdict

from rich.console import Console

from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.models.model import Model
from hybridface.models.terms import pure_he_inputs, pure_he_terms, pure_he_weights
from hybridface.output.cost import cost_table, decision_text, pure_he_document, score_text
from hybridface.output.terminal import width
from hybridface.processes.events import Events
from hybridface.processes.inputs import ClientInputs
from hybridface.processes.memory import resident_bytes
from hybridface.processes.runs import PureHeRun
from parties.session.pure_he import PureHeClientSession, PureHeResult, PureHeServerSession
from parties.transport.roles import Role
from protocols.channel import Channel

__all__ = ["run_client", "run_server", "say_result"]

_TEMPLATE = "enrolled"


def run_client(server: Channel, run: PureHeRun, own: ClientInputs, events: Events) -> int:
    """Enrol the second photo, verify the first against it, and return the exit status."""
    model = own.model
    terms = pure_he_terms(model, run.max_answers)
    first, second = (pure_he_inputs(model, image) for image in own.images)
    match = None
    with PureHeClientSession(server, terms, events.on_progress) as session:
        events.say("setup", **asdict(session.setup))
        template = session.enroll(_TEMPLATE, second)
        for index in range(run.repeat):
            if index:
                time.sleep(run.pause)
            result = session.verify(first, template)
            match = result.match
            say_result(result, model, events)
            events.say("resident", role=Role.CLIENT.value, bytes=resident_bytes())
    return EXIT_SAME if match else EXIT_DIFFERENT


def run_server(client: Channel, run: PureHeRun, model: Model, events: Events) -> int:
    """Serve one client to the end of its session; the server learns nothing, so the exit status is 0."""
    terms = pure_he_terms(model, run.max_answers)
    session = PureHeServerSession(client, terms, pure_he_weights(model), events.on_progress)
    session.serve(lambda: events.say("resident", role=Role.SERVER.value, bytes=resident_bytes()), events.command)
    return EXIT_SAME


def say_result(result: PureHeResult, model: Model, events: Events) -> None:
    """Report a result: as an event, or in words if nobody reads events."""
    if events.shown:
        events.say("result", **pure_he_document(result, model))
        return
    console = Console(width=width())
    console.print(decision_text(result.match), style="bold")
    console.print(score_text(result.squared_distance, model.threshold))
    console.print(cost_table(result.cost, model, layers=True))
