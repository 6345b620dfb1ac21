"""The server: has the weights, and its shares of the templates; learns nothing but, if so agreed, the decision.

It obeys the client's commands, one after another, and checks each. It never holds the secret key, nor the
client's shares.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from parties.cost import OFFLINE, ONLINE, Recorder, server_report
from parties.progress import OnProgress, Progress
from parties.terms import Terms, agree
from protocols.channel import IDLE_SECONDS, Channel, printable
from protocols.ckks import CkksContext, PublicKey
from protocols.correlations import DealerServer, Request
from protocols.errors import ParameterError, ProtocolError
from protocols.graph import Weights
from protocols.matching import matching_requests, reveal_match, squared_distance
from protocols.mpc import SERVER, MpcParty
from protocols.network import NetworkServer, convolution_shapes
from protocols.ring import RingArray

__all__ = ["ServerSession"]

_MAX_NAME = 10_000
_IMAGES = (1, 2)
_MAX_PREPARED = 64
_MAX_TEMPLATES = 100_000


class ServerSession:
    """The server's side of a session.

    Args:
        client, dealer: channels to them.
        terms: what the server expects to agree on.
        weights: the network's.
        on_progress: called as the layers' weights are encoded, at the start.

    Raises:
        ProtocolError: the client has other terms. PeerLostError: a peer is gone.
    """

    def __init__(
        self,
        client: Channel,
        dealer: Channel,
        terms: Terms,
        weights: Weights,
        on_progress: OnProgress | None = None,
    ) -> None:
        if len(terms.graph.output_shape) != 1:
            raise ParameterError(f"expected a network that ends in an embedding, got {terms.graph.output_shape}")
        self.terms = terms
        self._channel = client
        self._recorder = Recorder(client, dealer)
        self._templates: dict[str, RingArray] = {}
        self._prepared = 0
        self.decisions: list[bool | None] = []
        """What was revealed to the server, in order: None where nothing was."""
        context = CkksContext(terms.parameters)
        with self._recorder.recording(OFFLINE, "keys and weights"):
            agree(client, terms)
            key = PublicKey(context, client.receive("public key", np.uint64, (2, 2, context.degree)))
            self._source = DealerServer(dealer)
            self._network = NetworkServer(terms.graph, weights, key, _layer_progress(terms, on_progress))
            client.send("ready", np.ones(1, dtype=np.uint8))

    def template_share(self, name: str) -> RingArray:
        """Return the server's share of an enrolled template, uint64 (1, d), uniform.

        Raises:
            ProtocolError: there is none of that name.
        """
        if name not in self._templates:
            raise ProtocolError(f"expected the name of an enrolled template, got {printable(name, 40)!r}")
        return self._templates[name]

    def serve(self) -> None:
        """Obey commands until the client ends the session.

        Raises:
            ProtocolError: a command is malformed, or names an unknown template.
        """
        while (command := self._channel.receive_document("command", IDLE_SECONDS)).get("operation") != "end":
            match command:
                case {"operation": "prepare", "images": int(images), "matching": bool(matching)}:
                    self._prepare(_checked(images), matching)
                case {"operation": "enroll", "images": 1, "template": str(name)} if len(name) <= _MAX_NAME:
                    self._enroll(name)
                case {"operation": "verify", "images": 2, "template": None}:
                    embeddings = self._extract(2)
                    self._decide(embeddings[:1], embeddings[1:])
                case {"operation": "verify", "images": 1, "template": str(name)}:
                    template = self.template_share(name)
                    self._decide(self._extract(1), template)
                case _:
                    raise ProtocolError(f"expected a command, got {printable(command)}")

    def _enroll(self, name: str) -> None:
        if name in self._templates:
            raise ProtocolError(f"expected a new template's name, got {printable(name, 40)!r} again")
        if len(self._templates) >= _MAX_TEMPLATES:
            raise ProtocolError(f"expected at most {_MAX_TEMPLATES} templates, got one more")
        self._templates[name] = self._extract(1)
        self._report()

    def _prepare(self, images: int, matching: bool) -> None:
        if self._prepared >= _MAX_PREPARED:
            raise ProtocolError(f"expected at most {_MAX_PREPARED} prepared runs, got a request for one more")
        self._prepared += 1
        with self._recorder.recording(OFFLINE, "correlations"):
            requests: list[Request] = self._network.requests(images)
            self._source.prepare(requests + (matching_requests(self.terms.graph.output_shape[0]) if matching else []))
        self._network.prepare(self._channel, images, lambda name: self._recorder.stage(OFFLINE, name))
        self._recorder.finish()

    def _extract(self, images: int) -> RingArray:
        self._prepared = max(0, self._prepared - 1)
        with MpcParty(SERVER, self._channel, self._source) as party:
            share = self._network.run(party, None, images, lambda name: self._recorder.stage(ONLINE, name))
        self._recorder.finish()
        return share

    def _decide(self, first: RingArray, second: RingArray) -> None:
        with (
            self._recorder.recording(ONLINE, "distance and threshold"),
            MpcParty(SERVER, self._channel, self._source) as party,
        ):
            distance = squared_distance(party, first, second)
            self.decisions.append(reveal_match(party, distance, self.terms.threshold, self.terms.reveal))
        self._report()

    def _report(self) -> None:
        report: dict[str, Any] = server_report(self._recorder.take())
        self._channel.send_document("cost", report)


def _layer_progress(terms: Terms, on_progress: OnProgress | None) -> Callable[[str], None] | None:
    if on_progress is None:
        return None
    names = list(convolution_shapes(terms.graph))
    return lambda name: on_progress(Progress("start", f"weights of {name}", names.index(name), len(names)))


def _checked(images: int) -> int:
    if images not in _IMAGES:
        raise ProtocolError(f"expected 1 or 2 images, got {images}")
    return images
