"""A shard: one slice of a private gallery's index, and the search in it, alike on both sides.

A gallery is searched by one or more shards side by side. Each has an index of its own, with a mask of its own (its seed
is derived from the party's, for this shard of so many), and finds the nearest identities of its slice by a tournament
that leaves shares of their keys. The winners of all shards then meet in one more tournament (`group`). What each
party sees of a shard is what `protocols.matching` says: nothing but uniform numbers.
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
"""Other indexes of one gallery that a server keeps, for clients that keep as many."""


@dataclass(frozen=True)
class Wanted:
    """What a server is to have an index for.

    Args:
        build, digest: of the client's index; no build, if it has none.
        fresh: a new build's number: `build_of` what both have drawn.
        rows: how many templates it will hold.
        most: places of an index, at most.
    """

    build: bytes
    digest: str
    fresh: bytes
    rows: int
    most: int


class Shard:
    """One party's side of a shard.

    Args:
        source: of correlations, of this shard alone.
        folder: for the index.
        seed: of this shard's masks, 32 bytes: `shard_seed`.
        dimension: of the templates.
        number: of the shard, from 0.
        group: of the party's shards: `group_of` its own seed.
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
        """Hold the index with others: see `IndexFile`."""
        with self._index.reading():
            yield

    def refresh(self) -> None:
        """Take the index as it is on disk: see `IndexFile`."""
        self._index.refresh()

    def state(self) -> tuple[bytes, str]:
        """Return the index's build and its digest: what the client tells the server."""
        return self._index.build, self._index.digest

    def agree(self, wanted: Wanted) -> bytes:
        """Open, on the server, the counterpart of the client's index; return its build, or the fresh one if none fits.

        A server keeps an index for each of a client's: by the build's number.
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
        """Take the build that was agreed: begin again, if it is another one than the index's."""
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
        """Take what is to be searched; forget who is not enrolled any more; return the rows that are not indexed."""
        indexed = self._index.indexed
        self._index.forget(indexed[(indexed != 0) & ~np.isin(indexed, part.rows)])
        self._part = part
        return np.sort(part.rows[~np.isin(part.rows, self._index.indexed)])

    def extend(self, party: MpcParty, rows: Numbers, templates: RingArray) -> None:
        """Index templates, shares (n, d), of some rows."""
        if len(rows):
            extend_index(party, self._index, templates, rows.tolist())

    def prepare(self, top: int) -> None:
        """Make, offline, what one search uses up; forget what was made for one that did not take place."""
        self.discard()
        if len(self._part.rows):
            self._prepared = self._requests(top)
            self._source.prepare(self._prepared)

    def find(self, party: MpcParty, probe: RingArray, top: int, bits: int) -> RingArray:
        """Return shares of the keys of the `top` nearest identities of this slice, or of all if they are fewer.

        Args:
            party: entered, with this shard's channel and correlations.
            probe: uint64 (d,), share.
            bits: of an identity's number in a key.
        """
        part = self._part
        if not len(part.rows):
            return np.empty(0, dtype=np.uint64)
        self._prepared = []
        found = private_distances(party, self._index, part.rows, part.sizes, probe)
        keys = with_indices(found, part.numbers, bits, party.rank)
        return smallest(party, keys, min(top, len(part.sizes)))

    def erase(self) -> None:
        """Remove all indexes of the gallery from this folder, also other clients' and those of other shards.

        Raises:
            StoreError: something is still there.
        """
        self._folder.erase()

    def discard(self) -> None:
        """Take what was prepared for a search that did not take place: it belongs to the index as it was."""
        for request in self._prepared:
            self._source.take(request)
        self._prepared = []

    def _requests(self, top: int) -> list[Request]:
        identities = len(self._part.sizes)
        return [*find_requests(self._part.sizes, self._index), *smallest_requests(identities, min(top, identities))]


def shard_seed(seed: bytes, shard: int, shards: int) -> bytes:
    """Return the seed of a shard's masks: never two shards, nor two ways to cut a gallery, under one."""
    return hmac.digest(seed, b"hybridface shard 1\n%d %d" % (shard, shards), "sha256")


def build_of(client: bytes, server: bytes) -> bytes:
    """Return the number of a new build from 16 random bytes of each side: never an old one, if one side draws anew."""
    return hashlib.sha256(b"hybridface build 2\n" + client + server).digest()[:BUILD_BYTES]
