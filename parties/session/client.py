"""The client: has the photo and the secret key; learns, at most, one bit.

It drives the session: it sends commands (prepare, enroll, verify, end) to the server, which may refuse them. It never
holds a weight, nor the server's shares.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parties.prepared.pool import (
    MAX_POOL,
    BackgroundRefill,
    Pool,
    PoolStatus,
    RunShape,
    Turns,
    layers_of_part,
    requests_of_part,
)
from parties.prepared.runs import Prepared, PreparedRunsClient
from parties.prepared.store import PreparedStore
from parties.session.correlations import open_source
from parties.session.cost import OFFLINE, ONLINE, CostReport, Recorder, merge
from parties.session.progress import OnProgress, Progress
from parties.session.terms import MAX_NAME, Terms, agree, plans_document, plans_from_document
from protocols.arithmetic.fixed_point import RingArray, encode
from protocols.channel import CLIENT, Channel, printable
from protocols.correlations import Request
from protocols.encryption.ckks import CkksContext, ClientKeys
from protocols.errors import ParameterError, ProtocolError, reason_for_peers
from protocols.matching.distance import matching_requests, reveal_matches, squared_distance
from protocols.network.private import NetworkClient
from protocols.shares.party import MpcParty

__all__ = ["SETUP_STAGE", "ClientSession", "MatchResult", "Template"]

SETUP_STAGE = "keys and weights"
"""What a session does once, when it opens; its first result tells the cost."""


@dataclass(frozen=True)
class Template:
    """An enrolled face: the client's share of its embedding. The server holds the other, under the same name.

    Args:
        name: by which the server finds its share.
        share: uint64 (1, d), uniform.
        cost: of the enrolment.
    """

    name: str
    share: RingArray = field(repr=False)
    cost: CostReport = field(repr=False)


@dataclass(frozen=True)
class MatchResult:
    """The outcome of a verification.

    Args:
        matches: for every image, whether it is the same person; None if the decision was opened to the server alone.
        cost: of the verification, with the offline work since the last result.
        was_prepared: whether the pool held what it needed; if not, the offline work was done while it waited.
    """

    matches: tuple[bool | None, ...]
    cost: CostReport = field(repr=False)
    was_prepared: bool = True

    @property
    def match(self) -> bool | None:
        """The decision of a verification of one image."""
        if len(self.matches) != 1:
            raise ParameterError(f"expected one decision, got {len(self.matches)}: use `matches`")
        return self.matches[0]


class ClientSession:
    """The client's side of a session.

    Args:
        server, dealer: channels to them; no dealer if the terms need none.
        terms: what the client expects to agree on.
        on_progress: called as steps begin.
        pool: verifications of one image to keep prepared, in the background, between requests; 0 for none, at most 16.
        prepared: where runs are kept that were prepared by earlier sessions.

    Raises:
        ProtocolError: the server has other terms. PeerLostError: a peer is gone.
    """

    _refilled = RunShape(1, 1)
    """What the background keeps prepared."""

    def __init__(
        self,
        server: Channel,
        dealer: Channel | None,
        terms: Terms,
        on_progress: OnProgress | None = None,
        pool: int = 0,
        prepared: PreparedStore | None = None,
    ) -> None:
        if not 0 <= pool <= MAX_POOL:
            raise ParameterError(f"expected to keep at most {MAX_POOL} runs prepared, got {pool}")
        self.terms = terms
        self._channel, self._dealer = server, dealer
        self._on_progress = on_progress
        self._recorder = Recorder(server, dealer)
        self._running = False
        self._enrolled: set[str] = set()
        self._report("start", SETUP_STAGE, 0, 1)
        with self._recorder.recording(OFFLINE, SETUP_STAGE):
            agree(server, terms)
            keys = ClientKeys(CkksContext(terms.parameters))
            server.send("public key", keys.public_key())
            plans = plans_from_document(server.receive_document("plans"), terms.graph, terms.parameters.degree)
            self._source = open_source(CLIENT, terms.correlations, server, dealer)
            self._keys, self._network = keys, NetworkClient(terms.graph, keys, plans, terms.widths)
            server.receive("ready", np.uint8, (1,))
        self._layer_names = list(plans)
        described = terms.document(), plans_document(plans)
        own = Prepared(self._network, self._source, self._requests, described)
        self._saved = PreparedRunsClient(prepared, own, server, self._asking) if prepared else None
        self._pool, self._turns = Pool(self._prepare_part), Turns()
        self._refill = BackgroundRefill(self._pool, self._turns, self._refilled, pool) if pool else None
        if self._refill:
            self._refill.__enter__()

    def prepare(self, images: int = 1, decisions: int = 1) -> None:
        """Make, offline, all that one run on a batch uses up.

        Args:
            images: in the batch, at most 16.
            decisions: as many as images to verify them, one for a pair, none to enrol one.
        """
        shape = RunShape(images, decisions)
        with self._turns.request():
            self._check_refill()
            self._pool.prepare(shape)

    def save_prepared(self, images: int = 1, decisions: int = 1) -> CostReport:
        """Prepare one run and keep it on disk, on both sides, for a later session.

        Raises:
            ParameterError: there is no folder to keep it in, or no room. ProtocolError: the server has no room.
        """
        shape = RunShape(images, decisions)
        if self._saved is None:
            raise ParameterError("expected a folder to keep prepared runs in, got none")
        with self._turns.request():
            self._check_refill()
            self._saved.check_room(shape)
            self._pool.take(shape)
            reason = self._saved.save(shape)
            report = self._finish()
        if reason:
            raise ProtocolError(f"expected the server to keep a prepared run, it does not: {reason}")
        return report

    def pool_status(self, images: int = 1, decisions: int = 1) -> PoolStatus:
        """Return how much is prepared for runs of a shape (see `prepare`)."""
        shape = RunShape(images, decisions)
        capacity = self._refill.capacity if self._refill and self._refill.shape == shape else 0
        return PoolStatus(self._pool.ready(shape), capacity, self._pool.begun(shape))

    def verify_pair(self, images: NDArray[np.float64]) -> MatchResult:
        """Compare two images of the client, normalised, of shape (2, C, H, W)."""
        if len(images) != 2:
            raise ParameterError(f"expected two images, got {len(images)}")
        with self._turns.request():
            embeddings, ready = self._extract(images, {"operation": "verify", "images": 2, "templates": None}, 1)
            return self._decide(embeddings[:1], embeddings[1:], ready)

    def enroll(self, name: str, image: NDArray[np.float64]) -> Template:
        """Leave the embedding of an image (1, C, H, W) as shares: returns the client's; the server keeps its own."""
        if not 0 < len(name) <= MAX_NAME or name in self._enrolled:
            raise ParameterError(f"expected a new name of 1 to {MAX_NAME} characters, got {printable(name, 40)!r}")
        with self._turns.request():
            self._enrolled.add(name)
            share, _ = self._extract(image, {"operation": "enroll", "images": 1, "template": name}, 0)
            return Template(name, share, self._finish())

    def verify(self, images: NDArray[np.float64], template: Template | Sequence[Template]) -> MatchResult:
        """Compare images (B, C, H, W), B at most 16, with an enrolled template each, in one batch."""
        templates = [template] * len(images) if isinstance(template, Template) else list(template)
        if len(templates) != len(images):
            raise ParameterError(f"expected a template for each of {len(images)} images, got {len(templates)}")
        for entry in templates:
            if entry.share.shape != (1, *self.terms.graph.output_shape):
                raise ParameterError(f"expected templates of {self.terms.graph.output_shape}, got {entry.share.shape}")
        command = {"operation": "verify", "images": len(images), "templates": [entry.name for entry in templates]}
        with self._turns.request():
            embeddings, ready = self._extract(images, command, len(images))
            return self._decide(embeddings, np.concatenate([entry.share for entry in templates]), ready)

    def end(self) -> None:
        """End the session: the server and the dealer stop waiting for commands."""
        self._stop_refill()
        self._command({"operation": "end"})
        self._source.end()

    def fail(self, error: BaseException) -> None:
        """Tell both peers that this side ends."""
        self._stop_refill()
        for channel in filter(None, (self._channel, self._dealer)):
            channel.send_error(reason_for_peers(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        refill = self._refill
        self._stop_refill()  # first: a part that is under way is no failure
        error = error or (refill.error if refill else None)
        if error is None and not self._running:
            self.end()
        else:  # an operation has failed, in this block or caught in it
            self.fail(error or ProtocolError("an operation of the session has failed"))

    def _stop_refill(self) -> None:
        refill, self._refill = self._refill, None
        if refill:
            refill.__exit__(None, None, None)

    def _check_refill(self) -> None:
        """Raise what ended the background task: the session is then over."""
        if self._refill and self._refill.error:
            raise self._refill.error

    def _prepare_part(self, shape: RunShape, part: int) -> None:
        """Do one part of a preparation: some correlations, and some layers."""
        self._command({"operation": "prepare", "images": shape.images, "decisions": shape.decisions, "part": part})
        total = len(self._layer_names) + 1
        last = self._layer_names.index(layers[0]) if (layers := layers_of_part(self._layer_names, part)) else 0
        self._report(OFFLINE, "correlations", last, total)
        with self._recorder.recording(OFFLINE, "correlations"):
            self._source.prepare(requests_of_part(self._requests(shape), part))

        def on_layer(name: str) -> None:
            nonlocal last
            self._recorder.stage(OFFLINE, name)
            index = self._layer_names.index(name) + 1
            if index > last:
                self._report(OFFLINE, name, index, total)
            last = max(index, last)

        self._network.prepare(self._channel, shape.images, on_layer, layers)
        self._recorder.finish()
        self._running = False

    def _extract(self, images: NDArray[np.float64], command: dict[str, Any], decisions: int) -> tuple[RingArray, bool]:
        """Run the network; return the client's share of the embeddings (B, d), and whether it was prepared."""
        self._check_refill()
        shape = RunShape(len(images), decisions)
        value = self._encoded(images)
        if self._refill and not self._pool.ready(shape):
            self._report(OFFLINE, "the pool is empty, preparing now", 0, 1)
        self._restore_saved(shape)
        ready = self._pool.take(shape)
        self._command(command)
        return self._run_network(value), ready

    def _restore_saved(self, shape: RunShape) -> None:
        """Take up a run that an earlier session prepared, if there is need and there is one."""
        saved = self._saved
        while saved and not self._pool.ready(shape) and self._pool.fits(shape) and saved.knows(shape):
            if saved.restore(shape):
                self._pool.add(shape)

    @contextmanager
    def _asking(self, command: dict[str, Any]) -> Iterator[None]:
        """Send a command, and run a block that belongs to it; the session has failed if that fails."""
        self._command(command)
        yield
        self._running = False

    def _encoded(self, images: NDArray[np.float64]) -> RingArray:
        """Return images (B, C, H, W) as fixed point.

        Raises:
            ParameterError: another shape, or values out of range.
        """
        expected = (len(images), *self.terms.graph.input_shape)
        if images.shape != expected:
            raise ParameterError(f"expected images of shape {expected}, got {images.shape}")
        return encode(images)

    def _run_network(self, value: RingArray) -> RingArray:
        """Run the network on encoded images with what was taken out of the pool; return shares (B, d)."""
        names = [node.name for node in self.terms.graph.nodes]

        def on_layer(name: str) -> None:
            self._recorder.stage(ONLINE, name)
            self._report(ONLINE, name, names.index(name), len(names))

        with MpcParty(CLIENT, self._channel, self._source) as party:
            share = self._network.run(party, value, len(value), on_layer)
        self._recorder.finish()
        return share

    def _decide(self, first: RingArray, second: RingArray, ready: bool) -> MatchResult:
        with (
            self._recorder.recording(ONLINE, "distance and threshold"),
            MpcParty(CLIENT, self._channel, self._source) as party,
        ):
            distances = squared_distance(party, first, second)
            matches = reveal_matches(party, distances, self.terms.threshold, self.terms.reveal)
        return MatchResult(matches, self._finish(), ready)

    def _finish(self) -> CostReport:
        report = merge(self._recorder.take(), self._channel.receive_document("cost"))
        self._running = False
        return report

    def _command(self, document: dict[str, Any]) -> None:
        """Send a command. After one that failed there is no way back: the peers are out of step."""
        if self._running:
            raise ProtocolError("expected an open session, but this one has failed; open a new one")
        self._running = True
        self._channel.send_document("command", document)

    def _requests(self, shape: RunShape) -> list[Request]:
        matching = matching_requests(self.terms.graph.output_shape[0], shape.decisions)
        return self._network.requests(shape.images) + matching

    def _report(self, phase: str, stage: str, index: int, total: int) -> None:
        if self._on_progress:
            self._on_progress(Progress(phase, stage, index, total))
