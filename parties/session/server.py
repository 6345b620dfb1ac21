"""Run the server's side of a session: check the client's commands, and carry them out one after another.

The server has the weights, and its shares of the templates. It learns only the decision, and that only if the terms say
so. It never holds the secret key or one of the client's shares.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from parties.prepared.shape import MAX_BATCH, RunShape
from parties.prepared.store import PreparedStore
from parties.session.commands import Command, Commands, OnCommand, operation_of, work_of
from parties.session.progress import OnProgress
from parties.session.server_endpoint import ServerEndpoint
from parties.session.terms import MAX_NAME, Terms
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import Channel
from protocols.document import integer, list_of, optional, text
from protocols.errors import ProtocolError
from protocols.linear.planner import CostModel
from protocols.matching.distance import reveal_matches, squared_distance
from protocols.network.graph import Weights

__all__ = ["ServerSession"]

_MAX_TEMPLATES = 100_000


class ServerSession:
    """The server's side of a session.

    Args:
        client, dealer: channels to the client and the dealer; None for the dealer if the terms need none.
        terms: the terms that the server expects.
        weights: the network's weights.
        on_progress, cache, workers, cost, prepared: as for `ServerEndpoint`.

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
        self.terms = terms
        self.endpoint = ServerEndpoint(
            client,
            dealer,
            terms,
            weights,
            on_progress=on_progress,
            cache=cache,
            workers=workers,
            cost=cost,
            prepared=prepared,
        )
        self.last_decisions: tuple[bool | None, ...] = ()
        """The last verification's decisions, one for each image; None if the server does not learn the decision."""
        self._templates: dict[str, RingArray] = {}
        self._on_command: OnCommand | None = None
        self.commands: Commands = {"enroll": self._read_enrolment, "verify": self._read_verification}
        """The commands that the session carries out, in addition to its endpoint's."""

    def template_share(self, name: str) -> RingArray:
        """Return the server's share of an enrolled template, uint64 (1, d), uniform.

        Raises:
            ProtocolError: no template has that name.
        """
        if name not in self._templates:
            raise ProtocolError("expected the name of an enrolled template, got another name")
        return self._templates[name]

    def serve(self, on_done: Callable[[], None] | None = None, on_command: OnCommand | None = None) -> None:
        """Carry out commands until the client ends the session.

        Args:
            on_done, on_command: called after every enrolment and verification.

        Raises:
            ProtocolError: a command is malformed, or names an unknown template.
        """
        self._on_command = on_command
        self.endpoint.serve(self._obey, on_done)

    def _obey(self, command: Command) -> None:
        operation, began = operation_of(command), time.monotonic()
        work_of(command, self.commands)()
        self.endpoint.report()
        if self._on_command:
            self._on_command(operation, True, time.monotonic() - began)

    def _read_enrolment(self, command: Command) -> Callable[[], None]:
        command.take("images", integer(1, 1))
        name = command.take("template", text(MAX_NAME, 1))
        return lambda: self._enroll(name)

    def _read_verification(self, command: Command) -> Callable[[], None]:
        images = command.take("images", integer(1, MAX_BATCH))
        names = command.take("templates", optional(list_of(text(MAX_NAME, 1), MAX_BATCH, 1)))
        if images != (2 if names is None else len(names)):
            raise ProtocolError(f"expected two images, or a template for each, got {images} images")
        return self._verify_pair if names is None else lambda: self._verify(names)

    def _verify_pair(self) -> None:
        embeddings = self.endpoint.extract(RunShape(2, 1))
        self._decide(embeddings[:1], embeddings[1:])

    def _verify(self, names: Sequence[str]) -> None:
        templates = [self.template_share(name) for name in names]
        self._decide(self.endpoint.extract(RunShape(len(names), len(names))), np.concatenate(templates))

    def _enroll(self, name: str) -> None:
        if name in self._templates:
            raise ProtocolError("expected a new template's name, got an enrolled one")
        if len(self._templates) >= _MAX_TEMPLATES:
            raise ProtocolError(f"expected at most {_MAX_TEMPLATES} templates, got one more")
        self._templates[name] = self.endpoint.extract(RunShape(1, 0))

    def _decide(self, first: RingArray, second: RingArray) -> None:
        with self.endpoint.recorded_party("distance and threshold") as party:
            distances = squared_distance(party, first, second)
            self.last_decisions = reveal_matches(party, distances, self.terms.threshold, self.terms.reveal)
