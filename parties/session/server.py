"""The server: has the weights, and its shares of the templates; learns nothing but, if so agreed, the decision.

It obeys the client's commands, one after another, and checks each. It never holds the secret key, nor the
client's shares.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parties.prepared.pool import MAX_PREPARED_IMAGES, PARTS, RunShape, layers_of_part, requests_of_part
from parties.prepared.runs import Prepared, PreparedRunsServer
from parties.prepared.store import PreparedStore
from parties.session.correlations import open_source
from parties.session.cost import OFFLINE, ONLINE, Recorder, server_report
from parties.session.progress import OnProgress, Progress
from parties.session.terms import MAX_NAME, Terms, agree, plans_document
from parties.session.weight_cache import layer_polynomials, weights_key
from parties.session.worker import WorkerPool
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import IDLE_SECONDS, SERVER, Channel, printable
from protocols.correlations import Request
from protocols.encryption.ckks import CkksContext, PublicKey
from protocols.errors import ParameterError, ProtocolError
from protocols.linear.convolution import MaskedProducts
from protocols.linear.planner import CostModel
from protocols.matching.distance import matching_requests, reveal_matches, squared_distance
from protocols.network.graph import Weights
from protocols.network.private import NetworkServer, plan_network
from protocols.shares.party import MpcParty

__all__ = ["ServerSession"]

_MAX_TEMPLATES = 100_000


class ServerSession:
    """The server's side of a session.

    Args:
        client, dealer: channels to them; no dealer if the terms need none.
        terms: what the server expects to agree on.
        weights: the network's.
        on_progress: called as the layers' weights are encoded, at the start.
        cache: where encoded weights are kept between sessions; None to hold them in memory.
        workers: channels to the server's own workers, which then share the products.
        cost: chooses the layers' plans.
        prepared: where runs are kept that were prepared by earlier sessions; None to keep none.

    Raises:
        ProtocolError: the client has other terms. PeerLostError: a peer is gone.
    """

    def __init__(
        self,
        client: Channel,
        dealer: Channel | None,
        terms: Terms,
        weights: Weights,
        on_progress: OnProgress | None = None,
        cache: Path | None = None,
        workers: Sequence[Channel] = (),
        cost: CostModel | None = None,
        prepared: PreparedStore | None = None,
    ) -> None:
        if len(terms.graph.output_shape) != 1:
            raise ParameterError(f"expected a network that ends in an embedding, got {terms.graph.output_shape}")
        self.terms = terms
        self._channel = client
        self._recorder = Recorder(client, dealer)
        self._templates: dict[str, RingArray] = {}
        self._prepared: Counter[RunShape] = Counter()
        self._begun: tuple[RunShape, int] | None = None
        self.decisions: list[bool | None] = []
        """What was revealed to the server, in order: None where nothing was."""
        self.last_decisions: tuple[bool | None, ...] = ()
        """Those of the last verification, one for each image."""
        context = CkksContext(terms.parameters)
        with self._recorder.recording(OFFLINE, "keys and weights"):
            agree(client, terms)
            key = client.receive("public key", np.uint64, (2, 2, context.degree))
            self._public_key = public_key = PublicKey(context, key)
            plans = plan_network(terms.graph, context.degree, cost)
            client.send_document("plans", plans_document(plans))
            self._source = open_source(SERVER, terms.correlations, client, dealer)
            on_layer = _layer_progress(terms, on_progress)
            self._workers = WorkerPool(workers, terms, plans, public_key) if workers else None
            source = layer_polynomials(cache, context, plans, weights, on_layer)
            products = {name: MaskedProducts(plan, public_key, source(name)) for name, plan in plans.items()}
            if self._workers:
                self._workers.share(products)
            multiply = self._workers.multiply if self._workers else lambda name: products[name].begin
            self._network = NetworkServer(terms.graph, weights, public_key, plans, multiply, widths=terms.widths)
            client.send("ready", np.ones(1, dtype=np.uint8))
        self._layer_names = list(plans)
        described = terms.document(), plans_document(plans), weights_key(context, plans, weights) if prepared else ""
        own = Prepared(self._network, self._source, self._requests, described)
        self._saved = PreparedRunsServer(prepared, own, client)

    def template_share(self, name: object) -> RingArray:
        """Return the server's share of an enrolled template, uint64 (1, d), uniform.

        Raises:
            ProtocolError: there is none of that name.
        """
        if not isinstance(name, str) or name not in self._templates:
            raise ProtocolError(f"expected the name of an enrolled template, got {printable(name, 40)!r}")
        return self._templates[name]

    def serve(self, on_done: Callable[[], None] | None = None) -> None:
        """Obey commands until the client ends the session.

        Args:
            on_done: called after every enrolment and verification.

        Raises:
            ProtocolError: a command is malformed, or names an unknown template.
        """
        while (command := self._channel.receive_document("command", IDLE_SECONDS)).get("operation") != "end":
            match command:
                case {"operation": "prepare"}:
                    self._obey_preparation(command)
                    continue
                case {"operation": "kept server"}:
                    self._saved.introduce()
                    continue
                case {"pairing": str(pairing), "images": int(images), "decisions": int(decisions)}:
                    self._obey_about_saved(command, _checked(images, decisions), pairing)
                    continue
                case _:
                    self._obey(command)
            if on_done:
                on_done()
        if self._workers:
            self._workers.end()

    def _obey_preparation(self, command: dict[str, Any]) -> None:
        """Do the part of a preparation that a command says."""
        match command:
            case {"operation": "prepare", "images": int(images), "decisions": int(decisions), "part": int(part)}:
                self._prepare(_checked(images, decisions), part)
            case _:
                raise ProtocolError(f"expected a part of a preparation, got {printable(command)}")

    def _obey_about_saved(self, command: dict[str, Any], shape: RunShape, pairing: str) -> None:
        """Do what a command about prepared runs says."""
        try:
            match command:
                case {"operation": "keep", "number": str(number)}:
                    self._use_prepared(shape)
                    self._saved.save(shape, pairing, number)
                    self._report()
                case {"operation": "kept runs", "numbers": [*numbers]}:
                    self._saved.compare(shape, pairing, numbers)
                case {"operation": "adopt", "number": str(number), "usable": bool(usable)}:
                    self._check_room(shape)
                    self._prepared[shape] += self._saved.restore(shape, pairing, number, usable)
                case _:
                    raise ProtocolError(f"expected a command about prepared runs, got {printable(command)}")
        except ParameterError as error:
            raise ProtocolError(str(error)) from error

    def _obey(self, command: dict[str, Any]) -> None:
        """Do what a command says, but for "prepare", "end", and prepared runs."""
        match command:
            case {"operation": "enroll", "images": 1, "template": str(name)} if len(name) <= MAX_NAME:
                self._enroll(name)
            case {"operation": "verify", "images": 2, "templates": None}:
                embeddings = self._extract(RunShape(2, 1))
                self._decide(embeddings[:1], embeddings[1:])
            case {"operation": "verify", "images": int(images), "templates": [*names]} if images == len(names):
                shape = _checked(images, images)
                templates = [self.template_share(name) for name in names]
                self._decide(self._extract(shape), np.concatenate(templates))
            case _:
                raise ProtocolError(f"expected a command, got {printable(command)}")

    def _enroll(self, name: str) -> None:
        if name in self._templates:
            raise ProtocolError(f"expected a new template's name, got {printable(name, 40)!r} again")
        if len(self._templates) >= _MAX_TEMPLATES:
            raise ProtocolError(f"expected at most {_MAX_TEMPLATES} templates, got one more")
        self._templates[name] = self._extract(RunShape(1, 0))
        self._report()

    def _prepare(self, shape: RunShape, part: int) -> None:
        """Do one part of a preparation, the next of those that were begun."""
        expected = self._begun or (shape, 0)
        if (shape, part) != expected:
            raise ProtocolError(f"expected part {expected[1]} of {expected[0]}, got part {part} of {shape}")
        if part == 0:
            self._check_room(shape)
            self._prepared[shape] += 1
        with self._recorder.recording(OFFLINE, "correlations"):
            self._source.prepare(requests_of_part(self._requests(shape), part))
        layers = layers_of_part(self._layer_names, part)
        self._network.prepare(self._channel, shape.images, lambda name: self._recorder.stage(OFFLINE, name), layers)
        self._recorder.finish()
        self._begun = (shape, part + 1) if part + 1 < PARTS else None

    def _check_room(self, shape: RunShape) -> None:
        held = sum(entry.images * count for entry, count in self._prepared.items())
        if held + shape.images > MAX_PREPARED_IMAGES:
            raise ProtocolError(f"expected at most {MAX_PREPARED_IMAGES} prepared images, got a request for more")

    def _requests(self, shape: RunShape) -> list[Request]:
        """Return the correlations that a run uses up, in the client's order."""
        matching = matching_requests(self.terms.graph.output_shape[0], shape.decisions)
        return self._network.requests(shape.images) + matching

    def _use_prepared(self, shape: RunShape) -> None:
        """Count a prepared run as used."""
        if not self._is_prepared(shape):
            raise ProtocolError(f"expected a preparation of {shape} before its run, got none")
        self._prepared[shape] -= 1

    def _is_prepared(self, shape: RunShape) -> bool:
        """Return whether a run is prepared to its end."""
        unfinished = self._begun is not None and self._begun[0] == shape
        return self._prepared[shape] > unfinished

    def _extract(self, shape: RunShape) -> RingArray:
        self._use_prepared(shape)
        with MpcParty(SERVER, self._channel, self._source) as party:
            share = self._network.run(party, None, shape.images, lambda name: self._recorder.stage(ONLINE, name))
        self._recorder.finish()
        return share

    def _decide(self, first: RingArray, second: RingArray) -> None:
        with (
            self._recorder.recording(ONLINE, "distance and threshold"),
            MpcParty(SERVER, self._channel, self._source) as party,
        ):
            distances = squared_distance(party, first, second)
            self.last_decisions = reveal_matches(party, distances, self.terms.threshold, self.terms.reveal)
            self.decisions += self.last_decisions
        self._report()

    def _report(self) -> None:
        report: dict[str, Any] = server_report(self._recorder.take())
        self._channel.send_document("cost", report)


def _layer_progress(terms: Terms, on_progress: OnProgress | None) -> Callable[[str], None] | None:
    if on_progress is None:
        return None
    names = list(terms.graph.linear_layers())
    return lambda name: on_progress(Progress("start", f"weights of {name}", names.index(name), len(names)))


def _checked(images: int, decisions: int) -> RunShape:
    try:
        return RunShape(images, decisions)
    except ParameterError as error:
        raise ProtocolError(str(error)) from error
