"""Index and search one shard: one part of a private gallery. The code is alike on both sides.

One or more shards search a gallery side by side. Each shard has an index of its own, with a mask of its own. The mask's
seed is derived from the party's seed, the shard's number and the number of shards. A tournament finds the nearest
identities of the shard, and leaves shares of their keys. The winners of all shards then meet in one more tournament
(`search.winners`).

What each party sees of a shard: uniform numbers only (see `protocols.matching`).
"""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from parties.gallery.index.directory import Numbers, Part
from parties.gallery.index.file import BUILD_BYTES, IndexFile
from parties.gallery.index.folder import IndexFolder
from parties.gallery.index.search import extend_index, find_requests, private_distances
from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations import CorrelationSource, Request
from protocols.matching.selection import smallest, smallest_requests, with_indices
from protocols.shares.party import MpcParty

__all__ = ["Shard", "Wanted", "build_of", "shard_seed"]

_KEPT_BUILDS = 7
"""Number of other indexes of one gallery that a server keeps, for as many other indexes of clients."""


@dataclass(frozen=True)
class Wanted:
    """The index that a server needs for a client.

    Args:
        build, digest: of the client's index; an empty build if the client has no index.
        fresh: number of a new build: `build_of` both sides' random bytes.
        rows: number of templates that the index will hold.
        most: largest number of places of an index.
    """

    build: bytes
    digest: str
    fresh: bytes
    rows: int
    most: int


class Shard:
    """One party's side of a shard.

    Args:
        source: of correlations, for this shard alone.
        folder: for the index.
        seed: of this shard's masks, 32 bytes: see `shard_seed`.
        dimension: of the templates.
        number: of the shard, from 0.
        group: names the party's shards: `group_of` the party's seed.
    """

    def __init__(
        self,
        source: CorrelationSource,
        folder: IndexFolder,
        seed: bytes,
        dimension: int,
        number: int = 0,
        group: str | None = None,
    ) -> None:
        self._source, self._folder, self._group = source, folder, group
        self._open = partial(IndexFile, folder, seed, dimension, shard=number, group=group)
        self._index = self._open()
        self._part = Part(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        self._told = b""
        self._prepared: list[Request] = []

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the index alone: see `IndexFile`."""
        with self._index.writing():
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the index together with other readers: see `IndexFile`."""
        with self._index.reading():
            yield

    def refresh(self) -> None:
        """Load the index as it is on disk: see `IndexFile`."""
        self._index.refresh()

    def state(self) -> tuple[bytes, str]:
        """Return the index's build and its digest, which the client sends to the server."""
        return self._index.build, self._index.digest

    def agree(self, wanted: Wanted) -> bytes:
        """Open, on the server, the counterpart of the client's index; return its build.

        If no index fits, begin one with the fresh build. The server keeps a counterpart for each of the clients'
        indexes, named by its build.
        """
        index = self._open(wanted.build)
        more = max(0, wanted.rows - int(np.count_nonzero(index.indexed)))
        fits = index.build == wanted.build and index.digest == wanted.digest and index.used + more <= wanted.most
        if not wanted.build or not fits:
            index = self._open(wanted.fresh)
            index.clear(wanted.fresh)
            index.forget_others(_KEPT_BUILDS)
        self._index = index
        return index.build

    def begin(self, build: bytes) -> None:
        """Take the build that both sides agreed on. If the index has another one, begin it again."""
        self.discard()
        self._folder.make()
        if self._group:
            self._folder.keep_group(self._group)
        if self._index.build != build:
            self._index.clear(build)
        if self._told != build:
            self._source.tell_mask(self._index.mask)
            self._told = build

    def arrange(self, part: Part) -> Numbers:
        """Take the part to search, and forget rows that are not in it; return the rows that are not indexed yet."""
        indexed = self._index.indexed
        self._index.forget(indexed[(indexed != 0) & ~np.isin(indexed, part.rows)])
        self._part = part
        return np.sort(part.rows[~np.isin(part.rows, self._index.indexed)])

    def extend(self, party: MpcParty, rows: Numbers, templates: RingArray) -> None:
        """Index the templates of n rows, from this party's shares (n, d)."""
        if len(rows):
            extend_index(party, self._index, templates, rows.tolist())

    def prepare(self, top: int) -> None:
        """Make the correlations of one search, offline. Discard those made for a search that did not take place."""
        self.discard()
        if len(self._part.rows):
            self._prepared = self._requests(top)
            self._source.prepare(self._prepared)

    def find(self, party: MpcParty, probe: RingArray, top: int, bits: int) -> RingArray:
        """Return shares of the keys of this shard's `top` nearest identities, or of all if they are fewer.

        Args:
            party: entered, with this shard's channel and correlations.
            probe: uint64 (d,), share.
            bits: length of an identity's number in a key.
        """
        part = self._part
        if not len(part.rows):
            return np.empty(0, dtype=np.uint64)
        self._prepared = []
        found = private_distances(party, self._index, part.rows, part.sizes, probe)
        keys = with_indices(found, part.numbers, bits, party.rank)
        return smallest(party, keys, min(top, len(part.sizes)))

    def erase(self) -> None:
        """Remove all indexes of the gallery from this folder, including those of other clients and other shards.

        Raises:
            StoreError: a file could not be removed.
        """
        self._folder.erase()

    def discard(self) -> None:
        """Use up the correlations of a search that did not take place: they belong to the index as it was."""
        for request in self._prepared:
            self._source.take(request)
        self._prepared = []

    def _requests(self, top: int) -> list[Request]:
        identities = len(self._part.sizes)
        return [*find_requests(self._part.sizes, self._index), *smallest_requests(identities, min(top, identities))]


def shard_seed(seed: bytes, shard: int, shards: int) -> bytes:
    """Return the seed of a shard's masks. Each shard, of each number of shards, has a seed of its own."""
    return hmac.digest(seed, b"hybridface shard 1\n%d %d" % (shard, shards), "sha256")


def build_of(client: bytes, server: bytes) -> bytes:
    """Return a new build's number from 16 random bytes of each side. It is new if one side draws anew."""
    return hashlib.sha256(b"hybridface build 2\n" + client + server).digest()[:BUILD_BYTES]
