"""A shard: one slice of a private gallery's index, and the search in it, alike on both sides.

A gallery is searched by one or more shards side by side. Each has an index of its own, with a mask of its own (its seed
is derived from the party's, for this shard of so many), and finds the nearest identities of its slice by a tournament
that leaves shares of their keys. The winners of all shards then meet in one more tournament (`shard_group`). What each
party sees of a shard is what `protocols.identification` says: nothing but uniform numbers.
"""

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parties.gallery.directory import Numbers, Part
from parties.gallery.index_file import BUILD_BYTES, IndexFile
from parties.gallery.queries import extend_index, find_requests, private_distances
from protocols.correlations import Request
from protocols.identification.selection import smallest, smallest_requests, with_indices
from protocols.mpc import MpcParty
from protocols.ring import RingArray

__all__ = ["Shard", "shard_seed"]

_KEPT_BUILDS = 7
"""Other indexes of one gallery that a server keeps, for clients that keep as many."""


class Shard:
    """One party's side of a shard.

    Args:
        source: of correlations, of this shard alone.
        folder: for the index.
        lineage: of the gallery's store.
        seed: of this shard's masks, 32 bytes: `shard_seed`.
        dimension: of the templates.
    """

    def __init__(self, source: Any, folder: Path, lineage: bytes, seed: bytes, dimension: int) -> None:
        self._source = source
        self._place = folder, lineage, seed, dimension
        self._index = IndexFile(*self._place)
        self._part = Part(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        self._told = b""

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

    def state(self) -> tuple[bytes, str]:
        """Return the index's build and its digest: what the client tells the server."""
        return self._index.build, self._index.digest

    def agree(self, build: bytes, digest: str) -> bytes:
        """Open, on the server, the counterpart of the client's index; return its build, a new one if there is none.

        A server keeps an index for each of a client's: by the build's number.
        """
        self._index = IndexFile(*self._place, name=build)
        if not build or self._index.build != build or self._index.digest != digest:
            build = secrets.token_bytes(BUILD_BYTES)
            self._index = IndexFile(*self._place, name=build)
            self._index.clear(build)
            self._index.forget_others(_KEPT_BUILDS)
        return build

    def begin(self, build: bytes) -> None:
        """Take the build that was agreed: begin again, if it is another one than the index's."""
        if self._index.build != build:
            self._index.clear(build)
        if self._told != build:
            self._source.tell_mask(self._index.mask)
            self._told = build

    def arrange(self, part: Part) -> Numbers:
        """Take what is to be searched; forget who is not enrolled any more; return the rows that are not indexed."""
        self._index.forget(np.setdiff1d(self._index.indexed, np.append(part.rows, 0)))
        self._part = part
        return np.setdiff1d(part.rows, self._index.indexed)

    def extend(self, party: MpcParty, rows: Numbers, templates: RingArray) -> None:
        """Index templates, shares (n, d), of some rows."""
        if len(rows):
            extend_index(party, self._index, templates, rows.tolist())

    def prepare(self, top: int) -> None:
        """Make, offline, what one search uses up."""
        if len(self._part.rows):
            self._source.prepare(self._requests(top))

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
        found = private_distances(party, self._index, part.rows, part.sizes, probe)
        keys = with_indices(found, part.numbers, bits, party.rank)
        return smallest(party, keys, min(top, len(part.sizes)))

    def delete(self) -> None:
        """Remove the index, and those that other clients have built of this gallery."""
        self._index.delete()
        self._index.forget_others(0)

    def _requests(self, top: int) -> list[Request]:
        identities = len(self._part.sizes)
        return [*find_requests(self._part.sizes, self._index), *smallest_requests(identities, min(top, identities))]


def shard_seed(seed: bytes, shard: int, shards: int) -> bytes:
    """Return the seed of a shard's masks: never two shards, nor two ways to cut a gallery, under one."""
    return hmac.digest(seed, b"hybridface shard 1\n%d %d" % (shard, shards), "sha256")
