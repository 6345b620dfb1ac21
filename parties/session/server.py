"""The server: has the weights, and its shares of the templates; learns nothing but, if so agreed, the decision.

It obeys the client's commands, one after another, and checks each. It never holds the secret key, nor the
client's shares.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from parties.prepared.shape import RunShape
from parties.prepared.store import PreparedStore
from parties.session.progress import OnProgress
from parties.session.server_endpoint import Command, ServerEndpoint, shape_of
from parties.session.terms import MAX_NAME, Terms
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import Channel, printable
from protocols.errors import ProtocolError
from protocols.linear.planner import CostModel
from protocols.matching.distance import reveal_matches, squared_distance
from protocols.network.graph import Weights

__all__ = ["ServerSession"]

_MAX_TEMPLATES = 100_000


class ServerSession:
    """The server's side of a session.

    Args:
        client, dealer: channels to them; no dealer if the terms need none.
        terms: what the server expects to agree on.
        weights: the network's.
        on_progress, cache, workers, cost, prepared: as for `ServerEndpoint`.

    Raises:
        ProtocolError: the client has other terms. PeerLostError: a peer is gone.
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
        """Of the last verification, one for each image: None where nothing was revealed to the server."""
        self._templates: dict[str, RingArray] = {}

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
        self.endpoint.serve(self._obey, on_done)

    def _obey(self, command: Command) -> None:
        match command:
            case {"operation": "enroll", "images": 1, "template": str(name)} if len(name) <= MAX_NAME:
                self._enroll(name)
            case {"operation": "verify", "images": 2, "templates": None}:
                embeddings = self.endpoint.extract(RunShape(2, 1))
                self._decide(embeddings[:1], embeddings[1:])
            case {"operation": "verify", "images": int(images), "templates": [*names]} if images == len(names):
                shape = shape_of(images, images)
                templates = [self.template_share(name) for name in names]
                self._decide(self.endpoint.extract(shape), np.concatenate(templates))
            case _:
                raise ProtocolError(f"expected a command, got {printable(command)}")
        self.endpoint.report()

    def _enroll(self, name: str) -> None:
        if name in self._templates:
            raise ProtocolError(f"expected a new template's name, got {printable(name, 40)!r} again")
        if len(self._templates) >= _MAX_TEMPLATES:
            raise ProtocolError(f"expected at most {_MAX_TEMPLATES} templates, got one more")
        self._templates[name] = self.endpoint.extract(RunShape(1, 0))

    def _decide(self, first: RingArray, second: RingArray) -> None:
        with self.endpoint.recorded_party("distance and threshold") as party:
            distances = squared_distance(party, first, second)
            self.last_decisions = reveal_matches(party, distances, self.terms.threshold, self.terms.reveal)
