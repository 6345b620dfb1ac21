"""Run the client's side of any session: agree on terms, make keys, send commands, prepare and run the network.

Every kind of session holds a `ClientEndpoint` and adds its own commands (`client`, and the sessions on galleries). The
server's counterpart is `ServerEndpoint`. The client never holds a weight or one of the server's shares.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.prepared.pool import MAX_POOL, BackgroundRefill, Pool, PoolStatus, Turns, layers_of_part, requests_of_part
from parties.prepared.runs import PreparedRunsClient, RunsInMemory
from parties.prepared.shape import RunShape
from parties.prepared.store import PreparedStore
from parties.session.cost import OFFLINE, ONLINE, CostReport, Recorder, merge
from parties.session.progress import OnProgress, Progress
from parties.session.source import open_source
from parties.session.terms import Terms, agree, plans_document, receive_plans
from protocols.arithmetic.fixed_point import RingArray, encode
from protocols.channel import CLIENT, Channel
from protocols.correlations import Request
from protocols.encryption.ckks import CkksContext, ClientKeys
from protocols.errors import ParameterError, ProtocolError, reason_for_peers
from protocols.matching.distance import matching_requests
from protocols.network.private import NetworkClient
from protocols.shares.party import MpcParty

__all__ = ["SETUP_STAGE", "ClientEndpoint"]

SETUP_STAGE = "keys and weights"
"""The stage that a session goes through once, when it opens. The session's first result includes its cost."""


class ClientEndpoint:
    """The client's end of a session. Its constructor opens the session, with the server's `ServerEndpoint`.

    Args:
        server, dealer: channels to the server and the dealer; None for the dealer if the terms need none.
        terms: the terms that the client expects.
        on_progress: called when a step begins.
        pool: how many runs to keep prepared in the background, between requests; 0 to 16.
        refilled: the shape of these runs.
        prepared: the folder of runs that earlier sessions prepared.

    Attributes:
        channel: the channel to the server.
        keys: the client's keys.
        source: the source of correlations.
        recorder: measures what the session costs.

    Raises:
        ProtocolError: the server has other terms.
        PeerLostError: a peer is gone.
    """

    def __init__(
        self,
        server: Channel,
        dealer: Channel | None,
        terms: Terms,
        *,
        on_progress: OnProgress | None = None,
        pool: int = 0,
        refilled: RunShape = RunShape(1, 1),  # noqa: B008 (frozen)
        prepared: PreparedStore | None = None,
    ) -> None:
        if not 0 <= pool <= MAX_POOL:
            raise ParameterError(f"expected to keep at most {MAX_POOL} runs prepared, got {pool}")
        self.terms, self.channel, self.dealer = terms, server, dealer
        self.recorder = Recorder(server, dealer)
        self.running = False
        """Whether a command was sent that has not ended. If so while no request runs, the session has failed."""
        self._on_progress = on_progress
        self.report("start", SETUP_STAGE, 0, 1)
        with self.recorder.recording(OFFLINE, SETUP_STAGE):
            agree(server, terms)
            self.keys = keys = ClientKeys(CkksContext(terms.parameters))
            server.send("public key", keys.public_key())
            plans = receive_plans(server, terms.graph, terms.parameters.degree)
            self.source = open_source(CLIENT, terms.correlations, server, dealer)
            self.network = NetworkClient(terms.graph, keys, plans, terms.widths)
            server.receive("ready", np.uint8, (1,))
        self._layer_names = list(plans)
        described = terms.document(), plans_document(plans)
        own = RunsInMemory(self.network, self.source, self._requests, described)
        self.saved = PreparedRunsClient(prepared, own, server, self.asking) if prepared else None
        self.pool, self.turns = Pool(self._prepare_part), Turns()
        self._refill = BackgroundRefill(self.pool, self.turns, refilled, pool) if pool else None
        if self._refill:
            self._refill.__enter__()

    # Commands.

    @contextmanager
    def request(self) -> Iterator[None]:
        """Run a block as a request, after the background task has finished its current part.

        Raises:
            HybridFaceError: the error that ended the background task. The session is then over.
        """
        with self.turns.request():
            self.check()
            yield

    def check(self) -> None:
        """Raise the error that ended the background task, if any. The session is then over."""
        if self._refill and self._refill.error:
            raise self._refill.error

    def command(self, document: dict[str, Any]) -> None:
        """Send a command. After a command that failed, the session is over, since the peers are out of step.

        Raises:
            ParameterError: the command is too large. Nothing was sent, and the session goes on.
            ProtocolError: an earlier command has failed.
        """
        if self.running:
            raise ProtocolError("expected an open session, but this one has failed; open a new one")
        self.running = True
        try:
            self.channel.send_document("command", document)
        except ParameterError:
            self.running = False
            raise

    @contextmanager
    def asking(self, command: dict[str, Any]) -> Iterator[None]:
        """Send a command, and run the block that belongs to it. If the block fails, the session has failed."""
        self.command(command)
        yield
        self.running = False

    def finish(self) -> CostReport:
        """End a command, and return what both sides spent since the last command that ended."""
        report = merge(self.recorder.take(), self.channel.receive_document("cost"))
        self.running = False
        return report

    # Runs of the network.

    def prepare(self, shape: RunShape) -> None:
        """Do the offline phase of one run."""
        self.pool.prepare(shape)

    def prepare_within(self, shape: RunShape) -> None:
        """Prepare a run, if there is none, for a command that the server has accepted and that waits for the run."""
        self.running = False
        try:
            if not self.is_prepared(shape):
                self.pool.prepare(shape)
        finally:
            self.running = True

    def is_prepared(self, shape: RunShape) -> bool:
        """Return whether a run is prepared, here or by an earlier session."""
        self._restore_saved(shape)
        return self.pool.ready(shape) > 0

    def take_prepared(self, shape: RunShape) -> bool:
        """Take a prepared run out of the pool, or prepare one now. Return whether the pool had one."""
        if self._refill and not self.pool.ready(shape):
            self.report(OFFLINE, "the pool is empty, preparing now", 0, 1)
        self._restore_saved(shape)
        return self.pool.take(shape)

    def save_prepared(self, shape: RunShape) -> CostReport:
        """Prepare one run and keep it on disk, on both sides, for a later session.

        Raises:
            ParameterError: the client or the server has no folder for prepared runs, or the client has no room.
            ProtocolError: the server has no room, or cannot write the run.
        """
        if self.saved is None:
            raise ParameterError("expected a folder to keep prepared runs in, got none")
        self.saved.check_room(shape)
        self.pool.take(shape)
        reason = self.saved.save(shape)
        report = self.finish()
        if reason:
            raise ProtocolError(f"expected the server to keep a prepared run, but it does not: {reason}")
        return report

    def pool_status(self, shape: RunShape) -> PoolStatus:
        """Return how many runs of a shape are prepared."""
        capacity = self._refill.capacity if self._refill and self._refill.shape == shape else 0
        return PoolStatus(self.pool.ready(shape), capacity, self.pool.begun(shape))

    def encode(self, images: NDArray[np.float64]) -> RingArray:
        """Return images (B, C, H, W) in fixed point.

        Raises:
            ParameterError: the images have another shape, or values out of range.
        """
        expected = (len(images), *self.terms.graph.input_shape)
        if images.shape != expected:
            raise ParameterError(f"expected images of shape {expected}, got {images.shape}")
        return encode(images)

    def run_network(self, value: RingArray) -> RingArray:
        """Run the network on encoded images, with the run that was taken out of the pool; return shares (B, d)."""
        names = [node.name for node in self.terms.graph.nodes]

        def on_layer(name: str) -> None:
            self.recorder.stage(ONLINE, name)
            self.report(ONLINE, name, names.index(name), len(names))

        with self.party() as party:
            share = self.network.run(party, value, len(value), on_layer)
        self.recorder.finish()
        return share

    def party(self) -> MpcParty:
        """Return the client as a party of protocols on shares. The caller enters it."""
        return MpcParty(CLIENT, self.channel, self.source)

    # The end.

    def end(self) -> None:
        """End the session: the server and the dealer stop waiting for commands."""
        self._stop_refill()
        self.command({"operation": "end"})
        self.source.end()

    def fail(self, error: BaseException) -> None:
        """Tell both peers that this side ends."""
        self._stop_refill()
        for channel in filter(None, (self.channel, self.dealer)):
            channel.send_error(reason_for_peers(error))

    def failure(self, error: BaseException | None) -> BaseException | None:
        """Stop the background task, and return why the session has failed; None if it has not.

        Args:
            error: the error that left the session's block, if any.
        """
        refill = self._refill
        self._stop_refill()  # first, since a part that is under way is no failure
        error = error or (refill.error if refill else None)
        if error is None and self.running:  # the block caught the error
            return ProtocolError("an operation of the session has failed")
        return error

    def _stop_refill(self) -> None:
        refill, self._refill = self._refill, None
        if refill:
            refill.__exit__(None, None, None)

    def _prepare_part(self, shape: RunShape, part: int) -> None:
        """Do one part of a preparation: some correlations, and some layers."""
        self.command({"operation": "prepare", "images": shape.images, "decisions": shape.decisions, "part": part})
        total = len(self._layer_names) + 1
        last = self._layer_names.index(layers[0]) if (layers := layers_of_part(self._layer_names, part)) else 0
        self.report(OFFLINE, "correlations", last, total)
        with self.recorder.recording(OFFLINE, "correlations"):
            self.source.prepare(requests_of_part(self._requests(shape), part))

        def on_layer(name: str) -> None:
            nonlocal last
            self.recorder.stage(OFFLINE, name)
            index = self._layer_names.index(name) + 1
            if index > last:
                self.report(OFFLINE, name, index, total)
            last = max(index, last)

        self.network.prepare(self.channel, shape.images, on_layer, layers)
        self.recorder.finish()
        self.running = False

    def _restore_saved(self, shape: RunShape) -> None:
        """Load a run that an earlier session prepared, if the pool has none and there is one."""
        saved = self.saved
        while saved and not self.pool.ready(shape) and self.pool.fits(shape) and saved.knows(shape):
            if saved.restore(shape):
                self.pool.add(shape)

    def _requests(self, shape: RunShape) -> list[Request]:
        matching = matching_requests(self.terms.graph.output_shape[0], shape.decisions)
        return self.network.requests(shape.images) + matching

    def report(self, phase: str, stage: str, index: int, total: int) -> None:
        """Report that a step begins (see `Progress`)."""
        if self._on_progress:
            self._on_progress(Progress(phase, stage, index, total))
