"""A session about a list that the server owns, the client's side: it asks who a photo shows, and learns a name."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.cost import OFFLINE, ONLINE
from parties.gallery.list_server import list_query_requests
from parties.gallery.queries import list_distances, nearest_in_list
from parties.gallery.query_client import Identification, QueryClientSession, check_top
from parties.gallery.records import Kind
from protocols.channel import printable
from protocols.errors import ProtocolError
from protocols.identification.names import look_up, open_name
from protocols.identification.server_list import ServerListClient
from protocols.matching import Reveal

__all__ = ["ListClientSession"]

_MAX_TEMPLATES, _MAX_NAME_BYTES = 1 << 24, 1 << 31
_OPENED = "expected an index of the list, got a larger one"


class ListClientSession(QueryClientSession):
    """The client's side of a session about a server's list. The arguments are those of `ClientSession`."""

    def __init__(self, *others: Any, **options: Any) -> None:
        super().__init__(*others, **options)
        self._queries: Counter[int] = Counter()
        self._dimension = self.terms.graph.output_shape[0]
        with self._recorder.recording(OFFLINE, "list"):
            document = self._channel.receive_document("gallery")
            match document:
                case {"kind": Kind.LIST.value, "sizes": [*pairs], "bytes": int(width)}:
                    self._sizes = _sizes_of(pairs)
                case _:
                    raise ProtocolError(f"expected a server's list, got {printable(document)}")
            if not 0 <= width * self._sizes.size <= _MAX_NAME_BYTES:
                raise ProtocolError(f"expected at most {_MAX_NAME_BYTES} bytes of names, got names of {width} bytes")
            self._names = self._channel.receive("list/names", np.uint8, (self._sizes.size, width))
            if self._sizes.size:
                self._layer = ServerListClient(self._keys, int(self._sizes.sum()), self._dimension)
            self._channel.receive("list/ready", np.uint8, (1,))

    @property
    def identity_count(self) -> int:
        """How many identities the list had when the session began."""
        return int(self._sizes.size)

    def prepare_query(self, top: int = 1) -> None:
        """Do, offline, all work of one identification that needs no photo.

        Args:
            top: as it will be asked.

        Raises:
            QueryRefusedError: nobody is enrolled, or so much is prepared that more would be too much.
        """
        check_top(top)
        with self._turns.request():
            self._prepare_probe()
            self._prepare_query(top)

    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        Args:
            top: how many, at most 64.

        Raises:
            QueryRefusedError: the server has answered too often, or nobody is enrolled.
        """
        check_top(top)
        with self._turns.request():
            value = self._encoded(image)
            ready = self._prepare_probe()
            if not self._queries[top]:
                self._prepare_query(top)
                ready = False
            self._ask({"operation": "list-identify", "top": top})
            self._queries[top] -= 1
            probe = self._embed(value)
            with self._recorder.recording(ONLINE, "distances"), self._party() as party:
                found = list_distances(party, self._layer, self._sizes, probe[0])
            with self._recorder.recording(ONLINE, "nearest and threshold"), self._party() as party:
                indices = nearest_in_list(party, found, self.terms.threshold, top, self.terms.reveal)
            return Identification(self._names_of(indices), self._finish(), ready)

    def _prepare_query(self, top: int) -> None:
        self._ask({"operation": "list-prepare", "top": top})
        with self._recorder.recording(OFFLINE, "list"):
            self._layer.prepare(self._channel)
        self._prepare_now(list_query_requests(self._sizes, self._dimension, top, self.terms.reveal))
        report = self._finish()
        self._recorder.stages += report.stages  # part of the query's cost
        self._queries[top] += 1

    def _names_of(self, indices: tuple[int | None, ...]) -> tuple[str | None, ...]:
        """Open names of the list, by a lookup for each index, also for those that are None."""
        if any(i is not None and i >= self._sizes.size for i in indices):
            raise ProtocolError(_OPENED)
        if self.terms.reveal is Reveal.SERVER:
            return indices  # type: ignore[return-value]  # Nones
        with self._recorder.recording(ONLINE, "names"), self._party() as party:
            keys = look_up(party, self._sizes.size, len(indices), indices=indices)
        if keys is None:
            raise ProtocolError("expected keys of names, got none")
        pairs = zip(indices, keys, strict=True)
        return tuple(None if i is None else open_name(self._names, i, key) for i, key in pairs)


def _sizes_of(pairs: list[Any]) -> NDArray[np.int64]:
    """Return the sizes of the identities' groups from how many there are of each size.

    Raises:
        ProtocolError: they are none, or too many.
    """
    sizes, counts, total = [], [], 0
    for pair in pairs:
        match pair:
            case [int(size), int(count)] if size > 0 and count > 0 and total + size * count <= _MAX_TEMPLATES:
                sizes.append(size)
                counts.append(count)
                total += size * count
            case _:
                raise ProtocolError(
                    f"expected how many identities have so many photos, {_MAX_TEMPLATES} in all, got {printable(pair)}"
                )
    return np.repeat(np.array(sizes, dtype=np.int64), counts)
