"""Run a session about a server's list, on the server's side. The server knows a list in clear, such as a watch list.

**Identification.**

1. Both parties run the network on the probe as for verification, so its embedding is shared.
2. One private linear layer gives shares of the distances to the whole list (`protocols.matching.server_list`). Its
   homomorphic work belongs to the offline phase.
3. The parties find the nearest identities on shares. They open the identities' indices, or "nobody", to the parties
   that the terms name.
4. The client turns indices into names by private lookups (`protocols.matching.names`). It makes one lookup for each
   identity that it asked for, also if nobody was found, so the server sees no difference.

**Verification** of an identity that both sides know. The parties compare the probe's shares with shares of the
identity's templates: the server's shares are the templates, the client's are zeros. They open one bit, as in a private
gallery.

**What the client learns.** It learns how many identities have each number of photos, how many records the names take,
and the names found. In a verification it learns whether the identity is on the list, and how many photos it
has. The order of the identities is drawn for every reading of the list, so an index says nothing.

**What the server learns.** It learns that the client asked, and in a verification about whom.

**Changes.** The server reads the list when the client first asks for it, and when the client asks again after a change.
It refuses an identification in a list that has changed since it was read. So an identification finds nobody who was
removed.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np

from parties.gallery.errors import RefusalError
from parties.gallery.index.search import (
    PROBE,
    discard_queries,
    list_distances,
    list_query_requests,
    nearest_in_list,
)
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions.list_content import ListContent, list_templates, read_list
from parties.gallery.sessions.server import IDENTITY, TOP, GalleryQueries, GalleryServerSession
from parties.gallery.store.limits import EVERYONE
from parties.session.commands import Command, Commands
from parties.session.cost import OFFLINE
from parties.session.server_endpoint import ServerEndpoint
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import HiddenError, ProtocolError
from protocols.matching.names import look_up, seal_names
from protocols.matching.reveal import Reveal
from protocols.matching.server_list import ServerListServer

__all__ = ["MAX_PREPARED_QUERIES", "ListServerSession"]

MAX_PREPARED_QUERIES = 4
"""Largest number of prepared identifications. Each takes some hundred bytes of memory for each template."""


class ListServerSession(GalleryServerSession):
    """The server's side of a session about its list.

    Args:
        endpoint: the server's, of this session.
        queries: the list, and the limits on queries to it.
    """

    kind = GalleryKind.LIST
    rights: ClassVar = {
        "list-read": Right.IDENTIFY,
        "list-verify": Right.VERIFY,
        "list-prepare": Right.IDENTIFY,
        "list-identify": Right.IDENTIFY,
    }

    def __init__(self, endpoint: ServerEndpoint, queries: GalleryQueries) -> None:
        super().__init__(endpoint, queries)
        self._prepared: Counter[int] = Counter()
        self._change = 0
        self._identities: tuple[str, ...] = ()
        self._sizes = np.empty(0, dtype=np.int64)
        self._name_keys: RingArray | None = None
        self._layer: ServerListServer | None = None
        self.endpoint.channel.send_document("gallery", {"kind": GalleryKind.LIST.value})

    @property
    def commands(self) -> Commands:
        """The commands that the session obeys, besides its endpoint's."""
        return {
            "list-read": lambda command: self._read,
            "list-verify": self._read_verification,
            "list-prepare": lambda command: partial(self._prepare_query, command.take("top", TOP)),
            "list-identify": lambda command: partial(self._identify, command.take("top", TOP)),
        }

    def _read_verification(self, command: Command) -> Callable[[], None]:
        return partial(self._verify_identity, command.take("identity", IDENTITY))

    def _read(self) -> None:
        """Send the client's part of the list, if the list has changed since it was last sent."""
        change = self._store.last_change
        if self._layer and change == self._change:
            self._accept()
            return
        with self.endpoint.recorder.recording(OFFLINE, "list"):
            listed = read_list(self._store)
            if not listed.identities:
                raise RefusalError("expected enrolled identities, found none")
            self._log("read")
            names, keys = seal_names(listed.identities)
            self._accept(sizes=_counts(listed), records=len(names))
            discard_queries(self.endpoint.source, self._prepared, self._sizes, self._store.dimension, self.terms.reveal)
            self._change, self._identities, self._sizes = change, listed.identities, listed.sizes
            self._name_keys = keys
            self.endpoint.channel.send("list/names", names)
            self._layer = ServerListServer(self.endpoint.public_key, listed.templates)
            self.endpoint.channel.send("list/ready", np.ones(1, dtype=np.uint8))

    def _verify_identity(self, identity: str) -> None:
        self._admit("verify", identity, enrolled=self._store.has(identity))
        found = self._store.get(identity)
        if not found:
            raise RefusalError("expected an enrolled identity, found none of that name")
        templates = np.stack([share for _, share in found])
        list_templates(templates)  # are they embeddings?
        self._accept(photos=len(found))
        self._decide(templates)

    def _layer_for(self, top: int) -> ServerListServer:
        """Return the layer; refuse if the list has changed or has fewer than `top` identities."""
        if self._layer is None:
            raise RefusalError("expected the list to be read first")
        if self._store.last_change != self._change:
            raise RefusalError("expected the list as it was read, but it has changed: read it again")
        if top > len(self._sizes):
            raise RefusalError(f"expected to ask for at most {len(self._sizes)} identities, got {top}")
        return self._layer

    def _prepare_query(self, top: int) -> None:
        layer = self._layer_for(top)
        if self._prepared.total() >= MAX_PREPARED_QUERIES:
            raise RefusalError(f"expected at most {MAX_PREPARED_QUERIES} prepared identifications, got one more")
        self._prepared[top] += 1
        self._accept()
        with self.endpoint.recorder.recording(OFFLINE, "list"):
            layer.prepare(self.endpoint.channel)
        self.endpoint.prepare_correlations(
            list_query_requests(self._sizes, self._store.dimension, top, self.terms.reveal)
        )

    def _identify(self, top: int) -> None:
        layer = self._layer_for(top)
        if not self._prepared[top]:
            raise ProtocolError(f"expected a prepared identification of {top} identities, got none")
        self._admit("identify", EVERYONE, top)
        self._prepared[top] -= 1
        self._accept()
        sizes, reveal = self._sizes, self.terms.reveal
        probe = self.endpoint.extract(PROBE)
        with self.endpoint.recorded_party("distances") as party:
            found = list_distances(party, layer, sizes, probe[0])
        with self.endpoint.recorded_party("nearest and threshold") as party:
            indices = nearest_in_list(party, found, self.terms.threshold, top, reveal)
        if any(i is not None and i >= len(sizes) for i in indices):
            raise HiddenError("expected an index of the list, got a larger one")
        self.last_identities = tuple(None if i is None else self._identities[i] for i in indices)
        if reveal is not Reveal.SERVER:
            with self.endpoint.recorded_party("names") as party:
                look_up(party, len(sizes), top, keys=self._name_keys)


def _counts(listed: ListContent) -> list[list[int]]:
    """Return how many identities have each number of photos, as [photos, identities], the most photos first."""
    photos, identities = np.unique(listed.sizes, return_counts=True)
    return [[int(size), int(count)] for size, count in zip(photos[::-1], identities[::-1], strict=True)]
