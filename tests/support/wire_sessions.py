"""Cases of `wire`: sessions, from the handshake to the end, of the tiny network."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hybridface.local.parties import LocalLinks
from hybridface.models.model import load_model
from parties.gallery.key import GalleryKey
from parties.local import PartyThread
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.pure_he import PureHeClientSession, PureHeServerSession, PureHeTerms
from parties.session.server import ServerSession
from parties.session.terms import Terms
from parties.session.worker import Worker
from parties.transport.queues import local_channels
from protocols.channel import Channel
from protocols.matching.reveal import Reveal
from protocols.pure_he import PatchNetShape, PatchNetWeights, PureHeParameters
from support import gallery_sessions, list_sessions
from support.prepared_runs import session as kept_session
from support.wire import Recording, case
from support.wire_protocols import numbers

MODEL = load_model("tiny-test")


def images(count: int) -> Any:
    return numbers(count, *MODEL.graph.input_shape)


def run_session(correlations: Correlations, work: Any, reveal: Reveal = Reveal.CLIENT, workers: int = 0) -> None:
    """Open a session, and do some work in it as the client."""
    terms = Terms(MODEL.graph, MODEL.threshold, reveal, correlations=correlations)
    links = LocalLinks.make(correlations)
    pairs = [local_channels("server", f"worker {i}") for i in range(workers)]

    def serve() -> None:
        ends = [mine for mine, _ in pairs]
        ServerSession(links.to_client, links.of_server, terms, MODEL.weights or {}, workers=ends).serve()

    def help_server(channel: Channel) -> None:
        Worker(channel, terms, MODEL.weights or {}, None).serve()

    threads = [PartyThread("server", serve, links.server_ends), *links.others]
    threads += [
        PartyThread(f"worker {i}", partial(help_server, theirs), (theirs,)) for i, (_, theirs) in enumerate(pairs)
    ]
    for thread in threads:
        thread.start()
    with ClientSession(links.to_server, links.of_client, terms) as client:
        work(client)
    join(threads)


def join(threads: list[PartyThread]) -> None:
    for thread in threads:
        thread.join(60)
        if thread.error:
            raise thread.error


def _everything(recording: Recording, client: ClientSession) -> None:
    """Do all that a client may ask, each as a part of its own as far as it sends."""
    recording.part("pair")
    client.verify_pair(images(2))
    recording.part("enrolment")
    template = client.enroll("Ann", images(1))
    recording.part("preparation")
    client.prepare(3, 3)
    recording.part("batch")
    client.verify(images(3), template)


for maker in Correlations:
    for reveal in Reveal:
        if maker is Correlations.DEALER or reveal is Reveal.CLIENT:
            case(f"session, {maker}, for {reveal}")(
                lambda recording, maker=maker, reveal=reveal: run_session(
                    maker, partial(_everything, recording), reveal
                )
            )


@case("session with workers")
def _workers(recording: Recording) -> None:
    run_session(Correlations.DEALER, lambda client: client.verify_pair(images(2)), workers=2)


@case("prepared runs")
def _prepared(recording: Recording) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with kept_session(Path(folder), MODEL, Correlations.DEALER) as client:
            recording.part("kept")
            client.save_prepared(2, 1)
        with kept_session(Path(folder), MODEL, Correlations.DEALER) as client:
            recording.part("adopted")
            client.verify_pair(images(2))


def _private_gallery(recording: Recording, shards: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        gallery_sessions.session(Path(folder), GalleryKey(bytes(range(32))), shards=shards) as client,
    ):
        recording.part("enrolment")
        for number, name in enumerate(("Ann", "Bob", "Ann", "Cleo")):
            client.enroll_identity(name, numbers(number + 1, 3, 16, 16)[:1])
        recording.part("verification")
        client.verify_identity("Ann", images(1))
        recording.part("index")
        client.update_index()
        recording.part("identification")
        client.identify(images(1), 2)
        recording.part("listing")
        client.list_identities()
        recording.part("removal")
        client.remove_identities(["Bob"])
        recording.part("identification after a removal")
        client.identify(images(1))
        recording.part("rotation")
        client.rotate_key(GalleryKey(bytes(32)))
        recording.part("end")


for shards in (1, 2):
    case(f"private gallery of {shards} shards")(partial(_private_gallery, shards=shards))


for reveal in Reveal:

    def _list(recording: Recording, reveal: Reveal = reveal) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = list_sessions.fill(Path(folder) / "list.db")
            with list_sessions.session(path, reveal=reveal) as (client, _):
                recording.part("reading")
                client.update_index()
                recording.part("identification")
                client.identify(images(1), 2)
                recording.part("verification")
                client.verify_identity("Ann", images(1))
                recording.part("end")

    case(f"server's list, for {reveal}")(_list)


@case("session of pure HE")
def _pure_he(recording: Recording) -> None:
    run_pure_he("Ann", recording.part)


def run_pure_he(name: str, begin: Callable[[str], None] = lambda part: None) -> bool:
    """Enrol, and verify, in a session on ciphertexts alone; return the decision."""
    shape = PatchNetShape(4, 12, (8,), 8)
    weights = PatchNetWeights(
        (numbers(4, 8, 12, scale=0.25),), (numbers(4, 8),), numbers(8, 4, 8, scale=0.25), numbers(8)
    )
    parameters = PureHeParameters(8192, levels=4, scale_bits=30, first_bits=42, special_bits=52)
    terms = PureHeTerms(shape, 1.0, parameters)
    to_server, to_client = local_channels("client", "server")
    thread = PartyThread("server", lambda: PureHeServerSession(to_client, terms, weights).serve(), (to_client,))
    thread.start()
    with PureHeClientSession(to_server, terms) as client:
        begin("enrolment")
        template = client.enroll(name, numbers(4, 12))
        begin("verification")
        match = client.verify(numbers(4, 12) / 2, template).match
        begin("end")
    join([thread])
    return match
