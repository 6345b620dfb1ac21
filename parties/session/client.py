"""Run the client's side of a session: prepare, enrol and verify.

The client has the photo and the secret key. It drives the session: it sends commands (prepare, enroll, verify, end) to
the server, which may refuse them. It learns at most one bit for each image that it verifies. It never holds a weight or
one of the server's shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parties.prepared.pool import PoolStatus
from parties.prepared.shape import RunShape
from parties.prepared.store import PreparedStore
from parties.session.client_endpoint import ClientEndpoint
from parties.session.cost import ONLINE, CostReport
from parties.session.progress import OnProgress
from parties.session.terms import MAX_NAME, Terms
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import Channel, printable
from protocols.errors import ParameterError
from protocols.matching.distance import reveal_matches, squared_distance

__all__ = ["ClientSession", "MatchResult", "Template"]


@dataclass(frozen=True)
class Template:
    """An enrolled face: the client's share of its embedding. The server holds the other share under the same name.

    Args:
        name: the name under which the server finds its share.
        share: uint64 (1, d), uniform.
        cost: the cost of the enrolment.
    """

    name: str
    share: RingArray = field(repr=False)
    cost: CostReport = field(repr=False)


@dataclass(frozen=True)
class MatchResult:
    """The outcome of a verification.

    Args:
        matches: for every image, whether it is the same person; None if only the server learns the decision.
        cost: the cost of the verification, with the offline work since the last result.
        was_prepared: whether the pool held a prepared run. If not, the verification waited for its offline phase.
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
    """The client's side of a session. Use as a context manager.

    Args:
        server, dealer: channels to the server and the dealer; None for the dealer if the terms need none.
        terms: the terms that the client expects.
        on_progress: called when a step begins.
        pool: how many verifications of one image to keep prepared in the background, between requests; 0 to 16.
        prepared: the folder of runs that earlier sessions prepared.

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
        prepared: PreparedStore | None = None,
    ) -> None:
        self.endpoint = ClientEndpoint(server, dealer, terms, on_progress=on_progress, pool=pool, prepared=prepared)
        self.terms = terms
        self._enrolled: set[str] = set()

    def prepare(self, images: int = 1, decisions: int = 1) -> None:
        """Do the offline phase of one run on a batch.

        Args:
            images: images in the batch, at most 16.
            decisions: as many as images to verify them, 1 for a pair, 0 to enrol an image.
        """
        shape = RunShape(images, decisions)
        with self.endpoint.request():
            self.endpoint.prepare(shape)

    def save_prepared(self, images: int = 1, decisions: int = 1) -> CostReport:
        """Prepare one run and keep it on disk, on both sides, for a later session.

        Raises:
            ParameterError: the client or the server has no folder for prepared runs, or the client has no room.
            ProtocolError: the server has no room, or cannot write the run.
        """
        shape = RunShape(images, decisions)
        with self.endpoint.request():
            return self.endpoint.save_prepared(shape)

    def pool_status(self, images: int = 1, decisions: int = 1) -> PoolStatus:
        """Return how many runs of a shape are prepared (see `prepare`)."""
        return self.endpoint.pool_status(RunShape(images, decisions))

    def verify_pair(self, images: NDArray[np.float64]) -> MatchResult:
        """Compare two of the client's own images, normalised, of shape (2, C, H, W)."""
        if len(images) != 2:
            raise ParameterError(f"expected two images, got {len(images)}")
        with self.endpoint.request():
            embeddings, ready = self._extract(images, {"operation": "verify", "images": 2, "templates": None}, 1)
            return self._decide(embeddings[:1], embeddings[1:], ready)

    def enroll(self, name: str, image: NDArray[np.float64]) -> Template:
        """Enrol an image (1, C, H, W). Return the client's share of its embedding; the server keeps its own share."""
        if not 0 < len(name) <= MAX_NAME or name in self._enrolled:
            raise ParameterError(f"expected a new name of 1 to {MAX_NAME} characters, got {printable(name, 40)!r}")
        with self.endpoint.request():
            self._enrolled.add(name)
            share, _ = self._extract(image, {"operation": "enroll", "images": 1, "template": name}, 0)
            return Template(name, share, self.endpoint.finish())

    def verify(self, images: NDArray[np.float64], template: Template | Sequence[Template]) -> MatchResult:
        """Compare images (B, C, H, W), B at most 16, with enrolled templates, in one batch.

        Args:
            template: one template for all images, or one for each image.
        """
        templates = [template] * len(images) if isinstance(template, Template) else list(template)
        if len(templates) != len(images):
            raise ParameterError(f"expected a template for each of {len(images)} images, got {len(templates)}")
        for entry in templates:
            if entry.share.shape != (1, *self.terms.graph.output_shape):
                raise ParameterError(f"expected templates of {self.terms.graph.output_shape}, got {entry.share.shape}")
        command = {"operation": "verify", "images": len(images), "templates": [entry.name for entry in templates]}
        with self.endpoint.request():
            embeddings, ready = self._extract(images, command, len(images))
            return self._decide(embeddings, np.concatenate([entry.share for entry in templates]), ready)

    def end(self) -> None:
        """End the session: the server and the dealer stop waiting for commands."""
        self.endpoint.end()

    def fail(self, error: BaseException) -> None:
        """Tell both peers that this side ends."""
        self.endpoint.fail(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self.endpoint.failure(error)
        self.fail(failure) if failure else self.end()

    def _extract(self, images: NDArray[np.float64], command: dict[str, Any], decisions: int) -> tuple[RingArray, bool]:
        """Run the network; return the client's share of the embeddings (B, d), and whether the run was prepared."""
        shape, value = RunShape(len(images), decisions), self.endpoint.encode(images)
        ready = self.endpoint.take_prepared(shape)
        self.endpoint.command(command)
        return self.endpoint.run_network(value), ready

    def _decide(self, first: RingArray, second: RingArray, ready: bool) -> MatchResult:
        endpoint = self.endpoint
        with endpoint.recorder.recording(ONLINE, "distance and threshold"), endpoint.party() as party:
            distances = squared_distance(party, first, second)
            matches = reveal_matches(party, distances, self.terms.threshold, self.terms.reveal)
        return MatchResult(matches, endpoint.finish(), ready)
