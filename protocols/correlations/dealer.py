"""Make correlated randomness by a dealer: a third rank that sees no data.

- The client sends requests (types and sizes) and expands its seed.
- The server expands its seed and receives one correction for each request.
- The dealer holds both seeds, computes the derived fields, and sends the corrections.

The dealer learns which correlations are used, and so the network's shape. It learns nothing else: it receives nothing
that depends on an input. The client's stream masks the server's correction, so each party sees only pseudorandom values
(AES-256). The dealer must collude with neither party: together with one of them it could open every value.

A fixed mask (`fixed_mask`) outlives a session. Each party keeps its seed of the mask, and tells the dealer the seed.
Then the dealer knows the mask, but not what the mask hides.

Each request has an index, which all three sides count from 0. It selects the stream. No stream is ever expanded twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.stream import SEED_BYTES, Stream, new_seed
from protocols.channel import IDLE_SECONDS, Channel
from protocols.correlations.fixed_mask import FixedMask, FixedRequest
from protocols.correlations.request import Field, FreeRequest, Request
from protocols.correlations.source import CorrelationPool
from protocols.correlations.types import request_from_document
from protocols.document import integer, objects
from protocols.errors import ParameterError, ProtocolError

__all__ = ["Dealer", "DealerClient", "DealerServer"]

_MAX_REQUESTS, _MAX_DIMENSION = 100_000, 1 << 12
_MASK_SEED = "seed of the fixed mask"


class Dealer:
    """The dealer's loop. It answers requests until the client says that it is done.

    Args:
        client, server: channels to the two parties.
    """

    def __init__(self, client: Channel, server: Channel) -> None:
        self._client, self._server = client, server
        self._seeds = new_seed(), new_seed()
        self._mask: FixedMask | None = None
        self._index = 0

    def serve(self) -> None:
        """Hand out seeds, then corrections, until the client ends.

        Raises:
            ProtocolError: a request is malformed. PeerLostError: a party is gone.
        """
        for channel, seed in zip((self._client, self._server), self._seeds, strict=True):
            channel.send("seed", np.frombuffer(seed, dtype=np.uint8))
        while requests := self._next_requests():
            for request in requests:
                self._server.send(_label(request, self._index), self._correction(request))
                self._index += 1

    def _next_requests(self) -> list[Request]:
        while (document := self._client.receive_document("requests", IDLE_SECONDS)).has("fixed mask"):
            dimension = document.take("fixed mask", integer(2, _MAX_DIMENSION))
            document.end()
            self._receive_mask(dimension)
        with document:
            documents = document.take("requests", objects(_MAX_REQUESTS))
        return [request_from_document(document) for document in documents]

    def _receive_mask(self, dimension: int) -> None:
        parties = self._client, self._server
        seeds = tuple(party.receive(_MASK_SEED, np.uint8, (SEED_BYTES,)).tobytes() for party in parties)
        try:
            self._mask = FixedMask(seeds, dimension)
        except ParameterError as error:
            raise ProtocolError(str(error)) from error

    def _values(self, request: Request, first: list[RingArray], second: list[RingArray]) -> list[RingArray]:
        if isinstance(request, FreeRequest):
            return request.derive(first, second)
        if not isinstance(request, FixedRequest):
            raise ProtocolError(f"expected a correlation that a dealer makes, got {request}")
        if self._mask is None or self._mask.dimension != request.dimension:
            raise ProtocolError(f"expected a fixed mask of dimension {request.dimension} before {request}")
        uniform = [f.combine(a, b) for f, a, b in zip(request.uniform, first, second, strict=True)]
        return request.derive_with(self._mask, uniform)

    def _correction(self, request: Request) -> RingArray:
        streams = [Stream(seed, self._index) for seed in self._seeds]
        first, second = (_draw(stream, request.uniform) for stream in streams)
        values = self._values(request, first, second)
        words = np.empty(sum(value.size for value in values), dtype=np.uint64)
        start = 0
        for field, value in zip(request.derived, values, strict=True):  # in place: new memory costs more than the sums
            (share,) = _draw(streams[0], [field])
            field.complement(value, share, out=words[start : start + value.size].reshape(field.shape))
            start += value.size
        return words


class _DealerParty(CorrelationPool, ABC):
    """The part that both parties' ends share: the pool, the index, the stream."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._seed = channel.receive("seed", np.uint8, (SEED_BYTES,)).tobytes()
        self._index = 0

    def prepare(self, requests: Sequence[Request]) -> None:
        """Make correlations ahead of time."""
        if requests:
            self._announce(requests)
        for request in requests:
            self.put(request, self._make(request))

    def tell_mask(self, mask: FixedMask) -> None:
        """Tell the dealer this party's share of the fixed mask, for the rest of the session. Both parties do this."""
        (seed,) = mask.seeds
        self._channel.send(_MASK_SEED, np.frombuffer(seed, dtype=np.uint8))

    def take(self, request: Request) -> list[RingArray]:
        """Return this party's shares of a correlation: prepared ones, or if there are none, new ones."""
        pooled = self._pooled(request)
        if pooled is not None:
            return pooled
        self._announce([request])
        return self._make(request)

    def end(self) -> None:
        """Let the dealer end. The server leaves this to the client."""

    def _announce(self, requests: Sequence[Request]) -> None:
        """Send requests to the dealer. The server leaves this to the client."""

    def _make(self, request: Request) -> list[RingArray]:
        index = self._index
        self._index += 1  # count first, so that no stream is expanded twice, even after an error
        stream = Stream(self._seed, index)
        uniform = _draw(stream, request.uniform)
        return uniform + self._derived(request, stream)

    @abstractmethod
    def _derived(self, request: Request, stream: Stream) -> list[RingArray]:
        """Return this party's shares of the derived fields."""


class DealerClient(_DealerParty):
    """The client's end: rank 0, which sends the requests."""

    def _announce(self, requests: Sequence[Request]) -> None:
        self._channel.send_document("requests", {"requests": [request.document() for request in requests]})

    def tell_mask(self, mask: FixedMask) -> None:
        """Tell the dealer this party's share. The dealer then waits for the server's share too."""
        self._channel.send_document("requests", {"fixed mask": mask.dimension})
        super().tell_mask(mask)

    def _derived(self, request: Request, stream: Stream) -> list[RingArray]:
        return _draw(stream, request.derived)

    def end(self) -> None:
        """Let the dealer end."""
        self._channel.send_document("requests", {"requests": []})


class DealerServer(_DealerParty):
    """The server's end: rank 1, which receives the corrections."""

    def _derived(self, request: Request, stream: Stream) -> list[RingArray]:
        sizes = [int(np.prod(field.shape, dtype=np.int64)) for field in request.derived]
        words = self._channel.receive(_label(request, stream.index), np.uint64, (sum(sizes),))
        parts = np.split(words, np.cumsum(sizes)[:-1])
        return [part.reshape(field.shape) for part, field in zip(parts, request.derived, strict=True)]


def _draw(stream: Stream, fields: Sequence[Field]) -> list[RingArray]:
    drawn = [stream.ring(field.shape) for field in fields]
    return [words & np.uint64(1) if field.bits == 1 else words for words, field in zip(drawn, fields, strict=True)]


def _label(request: Request, index: int) -> str:
    return f"correction {index} {request}"
