"""Run a session about a server's list, on the client's side.

- **Identification.** The client asks who a photo shows, and learns names.
- **Verification.** The client asks whether a photo shows a person whom both know by name, and learns one bit. Its share
  of that person's templates is zero.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from parties.gallery.index.search import (
    CHUNK_ROWS,
    PROBE,
    decide_requests,
    discard_queries,
    list_distances,
    list_query_requests,
    nearest_in_list,
)
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions.client import GalleryClientSession, Identification, check_top
from parties.gallery.store.identities import asked_name
from parties.session.client import MatchResult
from parties.session.client_endpoint import ClientEndpoint
from parties.session.cost import OFFLINE, CostReport
from protocols.document import Document, integer, list_of, row, word
from protocols.errors import HiddenError, ProtocolError
from protocols.matching.names import SEALED_BYTES, SealedNames, look_up, open_name
from protocols.matching.reveal import Reveal
from protocols.matching.server_list import ServerListClient

__all__ = ["ListClientSession"]

_MAX_TEMPLATES, _MAX_NAME_BYTES = 1 << 24, 1 << 31
_SIZE = row(integer(1, _MAX_TEMPLATES), integer(1, _MAX_TEMPLATES))


class ListClientSession(GalleryClientSession):
    """The client's side of a session about a server's list.

    Args:
        endpoint: the client's, of this session.
    """

    def __init__(self, endpoint: ClientEndpoint) -> None:
        super().__init__(endpoint)
        self._queries: Counter[int] = Counter()
        self._dimension = self.terms.graph.output_shape[0]
        self._sizes = np.empty(0, dtype=np.int64)
        self._names: SealedNames = np.empty((0, SEALED_BYTES), dtype=np.uint8)
        self._layer: ServerListClient | None = None
        with self.endpoint.channel.receive_document("gallery") as document:
            if document.take("kind", word(*GalleryKind)) != GalleryKind.LIST:
                raise ProtocolError("expected a server's list, got a private gallery, which needs the client's key")

    @property
    def identity_count(self) -> int:
        """The number of identities in the list when the client last read it; 0 before."""
        return int(self._sizes.size)

    def update_index(self) -> CostReport:
        """Receive the client's part of the list, if the list is new or has changed.

        If it has changed, forget the prepared identifications.

        Raises:
            QueryRefusedError: nobody is enrolled.
        """
        with self.endpoint.request():
            answer = self._ask({"operation": "list-read"})
            with answer:
                if answer.has("sizes") or self._layer is None:
                    self._receive_list(answer)
            return self.endpoint.finish()

    def _receive_list(self, answer: Document) -> None:
        sizes = _sizes_of(answer.take("sizes", list_of(_SIZE, _MAX_TEMPLATES, 1)))
        records = answer.take("records", integer(int(sizes.size), _MAX_NAME_BYTES // SEALED_BYTES))
        discard_queries(self.endpoint.source, self._queries, self._sizes, self._dimension, self.terms.reveal)
        with self.endpoint.recorder.recording(OFFLINE, "list"):
            self._names = self.endpoint.channel.receive("list/names", np.uint8, (records, SEALED_BYTES))
            self._layer = ServerListClient(self.endpoint.keys, int(sizes.sum()), self._dimension)
            self.endpoint.channel.receive("list/ready", np.uint8, (1,))
        self._sizes = sizes

    def verify_identity(self, identity: str, image: NDArray[np.float64]) -> MatchResult:
        """Compare a photo (1, C, H, W) with the nearest photo of an identity that both sides know by name.

        Raises:
            QueryRefusedError: the identity is not on the list, or the client asked about it too often.
        """
        identity = asked_name(identity)
        with self.endpoint.request():
            value = self.endpoint.encode(image)
            ready = self.endpoint.is_prepared(PROBE)
            with self._ask({"operation": "list-verify", "identity": identity}) as answer:
                photos = answer.take("photos", integer(1, CHUNK_ROWS))
            templates = np.zeros((photos, self._dimension), dtype=np.uint64)
            self.endpoint.prepare_within(PROBE)
            self._prepare_now(decide_requests(*templates.shape))
            probe = self._embed(value)
            return MatchResult((self._decide(probe, templates),), self.endpoint.finish(), ready)

    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        Args:
            top: how many identities to return, at most 64. If fewer are on the list, their number replaces `top`.

        Raises:
            QueryRefusedError: the client asked too often, nobody is enrolled, or the list has changed since
                `update_index`.
        """
        check_top(top)
        layer = self._read_first()
        top = min(top, self.identity_count)
        with self.endpoint.request():
            value = self.endpoint.encode(image)
            ready = self._prepare_probe()
            if not self._queries[top]:
                self._prepare_query(layer, top)
                ready = False
            self._tell({"operation": "list-identify", "top": top})
            self._queries[top] -= 1
            probe = self._embed(value)
            with self._recorded_party("distances") as party:
                found = list_distances(party, layer, self._sizes, probe[0])
            with self._recorded_party("nearest and threshold") as party:
                indices = nearest_in_list(party, found, self.terms.threshold, top, self.terms.reveal)
            return Identification(self._names_of(indices), self.endpoint.finish(), ready)

    def _read_first(self) -> ServerListClient:
        """Return the layer; read the list first if it was not read yet."""
        if self._layer is None:
            self.update_index()
        if self._layer is None:
            raise ProtocolError("expected a list, got none")
        return self._layer

    def _prepare_query(self, layer: ServerListClient, top: int) -> None:
        self._tell({"operation": "list-prepare", "top": top})
        with self.endpoint.recorder.recording(OFFLINE, "list"):
            layer.prepare(self.endpoint.channel)
        self._prepare_now(list_query_requests(self._sizes, self._dimension, top, self.terms.reveal))
        report = self.endpoint.finish()
        self.endpoint.recorder.stages += report.stages  # part of the query's cost
        self._queries[top] += 1

    def _names_of(self, indices: tuple[int | None, ...]) -> tuple[str | None, ...]:
        """Open names of the list, by one lookup for each index. An index of None takes a lookup, too."""
        if any(i is not None and i >= self._sizes.size for i in indices):
            raise HiddenError("expected an index of the list, got a larger one")
        if self.terms.reveal is Reveal.SERVER:
            return indices  # type: ignore[return-value]  # Nones
        with self._recorded_party("names") as party:
            keys = look_up(party, self._sizes.size, len(indices), indices=indices)
        if keys is None:
            raise ProtocolError("expected keys of names, got none")
        pairs = zip(indices, keys, strict=True)
        return tuple(None if i is None else open_name(self._names, i, key) for i, key in pairs)


def _sizes_of(pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Return every identity's number of photos, int64 (m,), from pairs of (photos, number of identities).

    Raises:
        ProtocolError: the list has too many photos.
    """
    if (total := sum(size * count for size, count in pairs)) > _MAX_TEMPLATES:
        raise ProtocolError(f"expected at most {_MAX_TEMPLATES} photos in a list, got {total}")
    sizes, counts = np.array(pairs, dtype=np.int64).T
    return np.repeat(sizes, counts)
