"""Run the server's side of any session: agree on terms, encode weights, carry out commands, run the network.

Every kind of session holds a `ServerEndpoint` and adds its own commands (`server`, and the sessions on galleries). The
client's counterpart is `ClientEndpoint`. The server never holds the secret key or one of the client's shares.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from parties.prepared.pool import MAX_PREPARED_IMAGES, PARTS, layers_of_part, requests_of_part
from parties.prepared.runs import PreparedRunsServer, RunsInMemory
from parties.prepared.shape import MAX_BATCH, RunShape
from parties.prepared.store import MAX_KEPT, PreparedStore
from parties.session.commands import Command, Commands, is_end, work_of
from parties.session.cost import OFFLINE, ONLINE, Recorder, server_report
from parties.session.progress import OnProgress, Progress
from parties.session.source import open_source
from parties.session.terms import Terms, agree, plans_document, send_plans
from parties.session.weight_cache import layer_polynomials, weights_key
from parties.session.worker import WorkerPool
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import IDLE_SECONDS, SERVER, Channel
from protocols.correlations import Request
from protocols.document import boolean, hexadecimal, integer, list_of
from protocols.encryption.ckks import CkksContext, PublicKey
from protocols.errors import ParameterError, ProtocolError
from protocols.linear.convolution import MaskedProducts
from protocols.linear.planner import CostModel
from protocols.matching.distance import matching_requests
from protocols.network.graph import Weights
from protocols.network.private import NetworkServer, plan_network
from protocols.shares.party import MpcParty

__all__ = ["ServerEndpoint"]

_NUMBER = hexadecimal(16)
_SAVED = "pairing", "number"


class ServerEndpoint:
    """The server's end of a session. Its constructor opens the session, with the client's `ClientEndpoint`.

    Args:
        client, dealer: channels to the client and the dealer; None for the dealer if the terms need none.
        terms: the terms that the server expects.
        weights: the network's weights.
        on_progress: called at the start, before the weights of each layer are encoded.
        cache: folder that keeps encoded weights between sessions; None to hold them in memory.
        workers: channels to the server's workers, which then compute a part of the products.
        cost: the cost model by which the server chooses the layers' plans.
        prepared: the folder of runs that earlier sessions prepared; None to keep no runs.

    Attributes:
        channel: the channel to the client.
        public_key: the client's public key.
        source: the source of correlations.
        recorder: measures what the session costs.

    Raises:
        ProtocolError: the client has other terms.
        PeerLostError: a peer is gone.
    """

    def __init__(
        self,
        client: Channel,
        dealer: Channel | None,
        terms: Terms,
        weights: Weights,
        *,
        on_progress: OnProgress | None = None,
        cache: Path | None = None,
        workers: Sequence[Channel] = (),
        cost: CostModel | None = None,
        prepared: PreparedStore | None = None,
    ) -> None:
        if len(terms.graph.output_shape) != 1:
            raise ParameterError(f"expected a network that ends in an embedding, got {terms.graph.output_shape}")
        self.terms, self.channel = terms, client
        self.recorder = Recorder(client, dealer)
        self.held: Counter[RunShape] = Counter()
        """How many runs are prepared, including the one that was begun last."""
        self._begun: tuple[RunShape, int] | None = None
        context = CkksContext(terms.parameters)
        with self.recorder.recording(OFFLINE, "keys and weights"):
            agree(client, terms)
            key = client.receive("public key", np.uint64, (2, 2, context.degree))
            self.public_key = public_key = PublicKey(context, key)
            plans = plan_network(terms.graph, context.degree, cost)
            send_plans(client, plans)
            self.source = open_source(SERVER, terms.correlations, client, dealer)
            self._workers = WorkerPool(workers, terms, plans, public_key) if workers else None
            source = layer_polynomials(cache, context, plans, weights, _layer_progress(terms, on_progress))
            products = {name: MaskedProducts(plan, public_key, source(name)) for name, plan in plans.items()}
            if self._workers:
                self._workers.share(products)
            multiply = self._workers.multiply if self._workers else lambda name: products[name].begin
            self.network = NetworkServer(terms.graph, weights, public_key, plans, multiply, widths=terms.widths)
            client.send("ready", np.ones(1, dtype=np.uint8))
        self._layer_names = list(plans)
        described = terms.document(), plans_document(plans), weights_key(context, plans, weights) if prepared else ""
        own = RunsInMemory(self.network, self.source, self._requests, described)
        self._saved = PreparedRunsServer(prepared, own, client)
        self.commands: Commands = {
            "prepare": self._read_preparation,
            "kept server": lambda command: self._saved.introduce,
            "kept runs": self._read_comparison,
            "keep": self._read_keeping,
            "adopt": self._read_adoption,
        }
        """The commands about preparations, which every kind of session carries out in addition to its own."""

    def serve(self, obey: Callable[[Command], None], on_done: Callable[[], None] | None = None) -> None:
        """Carry out commands until the client ends the session.

        Args:
            obey: carries out a command. The endpoint itself carries out the commands about preparations.
            on_done: called after every command that `obey` has carried out.

        Raises:
            ProtocolError: a command is malformed.
        """
        while not is_end(command := self.channel.receive_document("command", IDLE_SECONDS)):
            if command.fields.get("operation") in list(self.commands):
                work_of(command, self.commands)()
                continue
            obey(command)
            if on_done:
                on_done()
        if self._workers:
            self._workers.end()

    def await_prepared(self, shape: RunShape) -> None:
        """Let the client prepare a run, if there is none, for a command that the server has accepted."""
        while not self._is_prepared(shape):
            work_of(self.channel.receive_document("command"), {"prepare": self._read_preparation})()

    def extract(self, shape: RunShape) -> RingArray:
        """Run the network on the client's images; return the server's share of the embeddings (B, d).

        Raises:
            ProtocolError: no such run is prepared.
        """
        self._use_prepared(shape)
        with self.party() as party:
            share = self.network.run(party, None, shape.images, lambda name: self.recorder.stage(ONLINE, name))
        self.recorder.finish()
        return share

    def party(self) -> MpcParty:
        """Return the server as a party of protocols on shares. The caller enters it."""
        return MpcParty(SERVER, self.channel, self.source)

    @contextmanager
    def recorded_party(self, stage: str, phase: str = ONLINE) -> Iterator[MpcParty]:
        """Enter the server's party, and record its work as one stage."""
        with self.recorder.recording(phase, stage), self.party() as party:
            yield party

    def prepare_correlations(self, requests: Sequence[Request]) -> None:
        """Make the correlations that the current command needs."""
        with self.recorder.recording(OFFLINE, "correlations"):
            self.source.prepare(list(requests))

    def report(self) -> None:
        """End a command: send the client the server's own cost."""
        self.channel.send_document("cost", server_report(self.recorder.take()))

    def _read_preparation(self, command: Command) -> Callable[[], None]:
        shape, part = _shape_in(command), command.take("part", integer(0, PARTS - 1))
        return lambda: self._prepare(shape, part)

    def _read_comparison(self, command: Command) -> Callable[[], None]:
        shape, pairing = _shape_in(command), command.take("pairing", _NUMBER).hex()
        numbers = [number.hex() for number in command.take("numbers", list_of(_NUMBER, MAX_KEPT))]
        return lambda: self._saved.compare(shape, pairing, numbers)

    def _read_keeping(self, command: Command) -> Callable[[], None]:
        shape, pairing, number = _shape_in(command), *(command.take(name, _NUMBER).hex() for name in _SAVED)
        return lambda: self._keep(shape, pairing, number)

    def _read_adoption(self, command: Command) -> Callable[[], None]:
        shape, pairing, number = _shape_in(command), *(command.take(name, _NUMBER).hex() for name in _SAVED)
        usable = command.take("usable", boolean)
        return lambda: self._adopt(shape, pairing, number, usable)

    def _keep(self, shape: RunShape, pairing: str, number: str) -> None:
        self._use_prepared(shape)
        self._saved.save(shape, pairing, number)
        self.report()

    def _adopt(self, shape: RunShape, pairing: str, number: str, usable: bool) -> None:
        self._check_room(shape)
        self.held[shape] += self._saved.restore(shape, pairing, number, usable)

    def _prepare(self, shape: RunShape, part: int) -> None:
        """Do one part of a preparation: the next part if one was begun, else the first."""
        expected = self._begun or (shape, 0)
        if (shape, part) != expected:
            raise ProtocolError(f"expected part {expected[1]} of {expected[0]}, got part {part} of {shape}")
        if part == 0:
            self._check_room(shape)
            self.held[shape] += 1
        with self.recorder.recording(OFFLINE, "correlations"):
            self.source.prepare(requests_of_part(self._requests(shape), part))
        layers = layers_of_part(self._layer_names, part)
        self.network.prepare(self.channel, shape.images, lambda name: self.recorder.stage(OFFLINE, name), layers)
        self.recorder.finish()
        self._begun = (shape, part + 1) if part + 1 < PARTS else None

    def _check_room(self, shape: RunShape) -> None:
        held = sum(entry.images * count for entry, count in self.held.items())
        if held + shape.images > MAX_PREPARED_IMAGES:
            raise ProtocolError(f"expected at most {MAX_PREPARED_IMAGES} prepared images, got a request for more")

    def _requests(self, shape: RunShape) -> list[Request]:
        """Return the correlations that a run uses up, in the client's order."""
        matching = matching_requests(self.terms.graph.output_shape[0], shape.decisions)
        return self.network.requests(shape.images) + matching

    def _use_prepared(self, shape: RunShape) -> None:
        """Count a prepared run as used."""
        if not self._is_prepared(shape):
            raise ProtocolError(f"expected a preparation of {shape} before its run, got none")
        self.held[shape] -= 1

    def _is_prepared(self, shape: RunShape) -> bool:
        """Return whether all parts of a run are prepared."""
        unfinished = self._begun is not None and self._begun[0] == shape
        return self.held[shape] > unfinished


def _shape_in(command: Command) -> RunShape:
    """Return the shape of a run that a client asks for.

    Raises:
        ProtocolError: no run has this shape.
    """
    images, decisions = (command.take(name, integer(0, MAX_BATCH)) for name in ("images", "decisions"))
    try:
        return RunShape(images, decisions)
    except ParameterError as error:
        raise ProtocolError(str(error)) from error


def _layer_progress(terms: Terms, on_progress: OnProgress | None) -> Callable[[str], None] | None:
    if on_progress is None:
        return None
    names = list(terms.graph.linear_layers())
    return lambda name: on_progress(Progress("start", f"weights of {name}", names.index(name), len(names)))
