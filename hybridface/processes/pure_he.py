"""Client and server of the computation under encryption from end to end, as ranks: no dealer, no workers."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.models.model import Model
from hybridface.models.terms import pure_he_inputs, pure_he_terms, pure_he_weights
from hybridface.output.cost import cost_table, decision_text, pure_he_document, score_text
from hybridface.output.terminal import width
from hybridface.processes.events import Events
from hybridface.processes.hybrid import photos_of
from hybridface.processes.memory import resident_bytes
from hybridface.processes.options import PartyOptions
from parties.session.pure_he import PureHeClientSession, PureHeResult, PureHeServerSession
from parties.transport.roles import Role
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.matching.distance import Reveal

__all__ = ["check_options", "run_client", "run_server"]

_TEMPLATE = "enrolled"


def check_options(options: PartyOptions, workers: Sequence[Channel]) -> None:
    """Raise `ParameterError` for what this mode cannot do."""
    if options.reveal is not Reveal.CLIENT:
        raise ParameterError(f"in pure-HE mode the client learns the result, expected no --reveal {options.reveal}")
    for name, value, usual in (("workers", len(workers), 0), ("pool", options.pool, 0), ("batch", options.batch, 1)):
        if value != usual:
            raise ParameterError(f"pure-HE mode has no --{name}, expected none, got {value}")
    if options.repeat > options.max_answers:
        raise ParameterError(
            f"expected at most {options.max_answers} verifications (--max-answers), got {options.repeat}"
        )


def run_client(server: Channel, options: PartyOptions, events: Events) -> int:
    """Enrol the second photo, verify the first against it, and return the exit status."""
    model = options.model()
    terms = pure_he_terms(model, options.max_answers)
    first, second = (pure_he_inputs(model, image) for image in photos_of(options, model))
    match = None
    with PureHeClientSession(server, terms, events.on_progress) as session:
        events.say("setup", **asdict(session.setup))
        template = session.enroll(_TEMPLATE, second)
        for index in range(options.repeat):
            if index:
                time.sleep(options.pause)
            result = session.verify(first, template)
            match = result.match
            _say_result(result, model, options, events)
            events.say("resident", role=Role.CLIENT.value, bytes=resident_bytes())
    return EXIT_SAME if match else EXIT_DIFFERENT


def run_server(client: Channel, options: PartyOptions, events: Events) -> int:
    """Serve one client to the end of its session; the server learns nothing, so the exit status is 0."""
    model = options.model()
    terms = pure_he_terms(model, options.max_answers)
    session = PureHeServerSession(client, terms, pure_he_weights(model), events.on_progress)
    session.serve(lambda: events.say("resident", role=Role.SERVER.value, bytes=resident_bytes()))
    return EXIT_SAME


def _say_result(result: PureHeResult, model: Model, options: PartyOptions, events: Events) -> None:
    if options.events:
        events.say("result", **pure_he_document(result, model))
        return
    console = Console(width=width())
    console.print(decision_text(result.match), style="bold")
    console.print(score_text(result.squared_distance, model.threshold))
    console.print(cost_table(result.cost, model, layers=True))
