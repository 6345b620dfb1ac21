"""The client: has the photo and the secret key; learns, at most, one bit.

It drives the session: it sends commands (prepare, enroll, verify, end) to the server, which may refuse them. It never
holds a weight, nor the server's shares.
"""

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.cost import OFFLINE, ONLINE, CostReport, Recorder, merge
from parties.progress import OnProgress, Progress
from parties.terms import Terms, agree
from protocols.channel import Channel
from protocols.ckks import CkksContext, ClientKeys
from protocols.correlations import DealerClient
from protocols.errors import ParameterError, ProtocolError, reason_for_peers
from protocols.matching import matching_requests, reveal_match, squared_distance
from protocols.mpc import CLIENT, MpcParty
from protocols.network import NetworkClient, convolution_shapes
from protocols.ring import RingArray, encode

__all__ = ["ClientSession", "MatchResult", "Template"]


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
        match: same person; None if the decision was opened to the server alone.
        cost: of the verification, with the preparation that was made for it.
    """

    match: bool | None
    cost: CostReport = field(repr=False)


class ClientSession:
    """The client's side of a session.

    Args:
        server, dealer: channels to them.
        terms: what the client expects to agree on.
        on_progress: called as steps begin.

    Raises:
        ProtocolError: the server has other terms. PeerLostError: a peer is gone.
    """

    def __init__(self, server: Channel, dealer: Channel, terms: Terms, on_progress: OnProgress | None = None) -> None:
        self.terms = terms
        self._channel, self._dealer = server, dealer
        self._on_progress = on_progress
        self._recorder = Recorder(server, dealer)
        self._prepared: Counter[tuple[int, bool]] = Counter()
        self._running = False
        self._report("start", "keys and weights", 0, 1)
        with self._recorder.recording(OFFLINE, "keys and weights"):
            agree(server, terms)
            keys = ClientKeys(CkksContext(terms.parameters))
            server.send("public key", keys.public_key())
            self._source = DealerClient(dealer)
            self._network = NetworkClient(terms.graph, keys)
            server.receive("ready", np.uint8, (1,))

    def prepare(self, images: int = 1, matching: bool = True) -> None:
        """Make, offline, all that one verification (or enrolment, without `matching`) of 1 or 2 images uses up."""
        if images not in (1, 2):
            raise ParameterError(f"expected to prepare for 1 or 2 images, got {images}")
        self._command({"operation": "prepare", "images": images, "matching": matching})
        names = list(convolution_shapes(self.terms.graph))
        self._report(OFFLINE, "correlations", 0, len(names) + 1)
        with self._recorder.recording(OFFLINE, "correlations"):
            self._source.prepare(self._requests(images, matching))

        def on_layer(name: str) -> None:
            self._recorder.stage(OFFLINE, name)
            self._report(OFFLINE, name, names.index(name) + 1, len(names) + 1)

        self._network.prepare(self._channel, images, on_layer)
        self._recorder.finish()
        self._running = False
        self._prepared[images, matching] += 1

    def verify_pair(self, images: NDArray[np.float64]) -> MatchResult:
        """Compare two images of the client, normalised, of shape (2, C, H, W)."""
        embeddings = self._extract(images, {"operation": "verify", "images": 2, "template": None}, matching=True)
        return self._decide(embeddings[:1], embeddings[1:])

    def enroll(self, name: str, image: NDArray[np.float64]) -> Template:
        """Leave the embedding of an image (1, C, H, W) as shares: returns the client's; the server keeps its own."""
        share = self._extract(image, {"operation": "enroll", "images": 1, "template": name}, matching=False)
        return Template(name, share, self._finish())

    def verify(self, image: NDArray[np.float64], template: Template) -> MatchResult:
        """Compare an image (1, C, H, W) with an enrolled template."""
        command = {"operation": "verify", "images": 1, "template": template.name}
        return self._decide(self._extract(image, command, matching=True), template.share)

    def end(self) -> None:
        """End the session: the server and the dealer stop waiting for commands."""
        self._command({"operation": "end"})
        self._source.end()

    def fail(self, error: BaseException) -> None:
        """Tell both peers that this side ends."""
        for channel in (self._channel, self._dealer):
            channel.send_error(reason_for_peers(error))

    def __enter__(self) -> "ClientSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._running:
            self.end()
        else:  # an operation has failed, in this block or caught in it
            self.fail(error or ProtocolError("an operation of the session has failed"))

    def _extract(self, images: NDArray[np.float64], command: dict[str, Any], matching: bool) -> RingArray:
        """Run the network; return the client's share of the embeddings (B, d)."""
        count = int(command["images"])
        expected = (count, *self.terms.graph.input_shape)
        if images.shape != expected:
            raise ParameterError(f"expected images of shape {expected}, got {images.shape}")
        value = encode(images)
        if not self._prepared[count, matching]:
            self.prepare(count, matching)
        self._prepared[count, matching] -= 1
        self._command(command)
        names = [node.name for node in self.terms.graph.nodes]

        def on_layer(name: str) -> None:
            self._recorder.stage(ONLINE, name)
            self._report(ONLINE, name, names.index(name), len(names))

        with MpcParty(CLIENT, self._channel, self._source) as party:
            share = self._network.run(party, value, count, on_layer)
        self._recorder.finish()
        return share

    def _decide(self, first: RingArray, second: RingArray) -> MatchResult:
        with (
            self._recorder.recording(ONLINE, "distance and threshold"),
            MpcParty(CLIENT, self._channel, self._source) as party,
        ):
            distance = squared_distance(party, first, second)
            match = reveal_match(party, distance, self.terms.threshold, self.terms.reveal)
        return MatchResult(match, self._finish())

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

    def _requests(self, images: int, matching: bool) -> list[Any]:
        dimension = self.terms.graph.output_shape[0]
        return self._network.requests(images) + (matching_requests(dimension) if matching else [])

    def _report(self, phase: str, stage: str, index: int, total: int) -> None:
        if self._on_progress:
            self._on_progress(Progress(phase, stage, index, total))
