"""A session about a list that the server owns, the server's side: a staff list, a watch list, known to it in clear.

The probe is extracted as for verification, so its embedding is shared. Distances to the whole list are one private
linear layer (`protocols.identification.server_list`), whose homomorphic work is done before; the nearest identities
are found on shares, and their indices, or "nobody", are opened to whom the terms name. The client turns indices into
names by private lookups (`protocols.identification.names`), as many as it asked for identities, also if nobody was
found: the server sees no difference.

The client learns how many identities there are and how many photos they have (as a count for every number of photos),
a bound on the longest name, and the names that it finds. Identities lie in an order that is drawn for every session, so
an index says nothing. The server learns that it was asked.

The list is read when the session begins; what is enrolled or removed later counts from the next session on.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.cost import OFFLINE
from parties.gallery.errors import StoreError
from parties.gallery.layout import Layout, layout_of
from parties.gallery.limits import EVERYONE, QueryLimits
from parties.gallery.queries import (
    PROBE,
    TOP_MAX,
    list_distances,
    list_find_requests,
    nearest_in_list,
    selection_requests,
)
from parties.gallery.query_server import QueryServerSession
from parties.gallery.records import Entry, Kind
from parties.gallery.store import GalleryStore
from protocols.errors import ProtocolError
from protocols.identification.names import look_up, lookup_requests, seal_names
from protocols.identification.server_list import ListTemplates, ServerListServer
from protocols.matching import Reveal
from protocols.randomness import random_words

__all__ = ["MAX_PREPARED_QUERIES", "ListServerSession", "list_query_requests"]

MAX_PREPARED_QUERIES = 4
"""Identifications that are prepared at a time, at most: each takes some hundred bytes of memory for a template."""


class ListServerSession(QueryServerSession):
    """The server's side of a session about its list.

    Args:
        store: of the list.
        limits: on the client's queries; None for none.
        client_name: whom the limits count, as the caller has authenticated them.
        others: as for `ServerSession`.

    Raises:
        StoreError: the store is damaged, or changes while it is read.
    """

    def __init__(
        self, *others: Any, store: GalleryStore, limits: QueryLimits | None, client_name: str, **options: Any
    ) -> None:
        super().__init__(*others, store=store, kind=Kind.LIST, limits=limits, client_name=client_name, **options)
        self._queries: Counter[int] = Counter()
        with self._recorder.recording(OFFLINE, "list"):
            listed = _read_list(store)
            self._identities, self._sizes = listed.identities, listed.sizes
            sizes = self._sizes
            names, self._name_keys = seal_names(self._identities)
            counts = [[int(size), int(np.count_nonzero(sizes == size))] for size in np.unique(sizes)[::-1]]
            self._channel.send_document("gallery", {"kind": Kind.LIST.value, "sizes": counts, "bytes": names.shape[1]})
            self._channel.send("list/names", names)
            self._layer = ServerListServer(self._public_key, listed.templates) if len(sizes) else None
            self._channel.send("list/ready", np.ones(1, dtype=np.uint8))

    def _obey(self, command: dict[str, Any]) -> None:
        match command:
            case {"operation": "list-prepare", "top": int(top)} if 0 < top <= TOP_MAX:
                self._answer(lambda: self._prepare_query(top))
            case {"operation": "list-identify", "top": int(top)} if 0 < top <= TOP_MAX:
                self._answer(lambda: self._identify(top))
            case _:
                super()._obey(command)

    def _layer_for(self, top: int) -> ServerListServer:
        """Return the layer, if so many identities can be asked for."""
        count = len(self._sizes)
        if self._layer is None:
            raise StoreError("expected enrolled identities, found none")
        if top > count:
            raise StoreError(f"expected to ask for at most {count} identities, got {top}")
        return self._layer

    def _prepare_query(self, top: int) -> None:
        layer = self._layer_for(top)
        if self._queries.total() >= MAX_PREPARED_QUERIES:
            raise StoreError(f"expected at most {MAX_PREPARED_QUERIES} prepared identifications, got one more")
        self._queries[top] += 1
        self._accept()
        with self._recorder.recording(OFFLINE, "list"):
            layer.prepare(self._channel)
        self._prepare_now(list_query_requests(self._sizes, self._store.dimension, top, self.terms.reveal))

    def _identify(self, top: int) -> None:
        layer = self._layer_for(top)
        if not self._queries[top]:
            raise ProtocolError(f"expected a preparation of an identification of {top} before it, got none")
        self._admit("identify", EVERYONE)
        self._queries[top] -= 1
        self._accept()
        sizes, reveal = self._sizes, self.terms.reveal
        probe = self._extract(PROBE)
        with self._party("distances") as party:
            found = list_distances(party, layer, sizes, probe[0])
        with self._party("nearest and threshold") as party:
            indices = nearest_in_list(party, found, self.terms.threshold, top, reveal)
        self.last_identities = tuple(None if i is None else self._identities[i] for i in indices)
        if reveal is not Reveal.SERVER:
            with self._party("names") as party:
                look_up(party, len(sizes), top, keys=self._name_keys)


def list_query_requests(sizes: NDArray[np.int64], dimension: int, top: int, reveal: Reveal) -> list[Any]:
    """Return the correlations that one identification uses up."""
    requests = [*list_find_requests(sizes, dimension), *selection_requests(len(sizes), top)]
    return requests if reveal is Reveal.SERVER else [*requests, *lookup_requests(len(sizes), top)]


@dataclass(frozen=True)
class _List:
    """A list in the order of one session.

    Args:
        identities: m; those with the most photos first, else in a random order.
        sizes: int64 (m,), photos of each, so descending.
        templates: int32 (n, d), of the first identity, then of the second, ....
    """

    identities: tuple[str, ...] = field(repr=False)
    sizes: NDArray[np.int64]
    templates: ListTemplates = field(repr=False)


def _read_list(store: GalleryStore) -> _List:
    entries: list[Entry] = []
    blocks = []
    for listed, shares in store.blocks():
        entries += listed
        values = shares.view(np.int64)
        blocks.append(values.astype(np.int32))
        if not np.array_equal(blocks[-1], values):
            raise StoreError(f"{store.path.name}: expected a list's embeddings below 2^15, got a larger number")
    layout = layout_of(entries)
    templates = np.concatenate(blocks) if blocks else np.empty((0, store.dimension), dtype=np.int32)
    blocks.clear()
    order = np.lexsort((random_words(len(layout.sizes)), -layout.sizes))
    places = _places(layout, entries)[_ranges(layout, order)]
    names = tuple(layout.identities[i] for i in order.tolist())
    return _List(names, layout.sizes[order], templates[places])


def _places(layout: Layout, entries: list[Entry]) -> NDArray[np.int64]:
    """Return where the layout's rows lie among entries, which are in the order of their rows."""
    return np.searchsorted(np.array([entry.row for entry in entries], dtype=np.int64), layout.rows)


def _ranges(layout: Layout, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the layout's positions, identity by identity in another order."""
    sizes = layout.sizes[order]
    starts = (np.cumsum(layout.sizes) - layout.sizes)[order]
    return np.asarray(np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes))
