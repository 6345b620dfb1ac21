"""Use all shards of a gallery as one party. Its own rank searches the first shard, its other ranks the others.

A rank of the client and a rank of the server search a shard. With a dealer, a third rank deals correlations to the two.
The client's and the server's ranks belong to their organisations. Each gets only what its party may know: the party's
shares of the templates and of the probe, and its seed. The channel to it must not leave the organisation unprotected.
Nobody else sees more than without shards.

In each step the own rank starts the other ranks (`remote`), does its own part, then waits for theirs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from parties.gallery.index.directory import Numbers, Part
from parties.gallery.index.folder import IndexFolder, group_of
from parties.gallery.shards.remote import RemoteShard
from parties.gallery.shards.shard import Shard, Wanted, shard_seed
from protocols.arithmetic.fixed_point import RingArray
from protocols.correlations import CorrelationSource
from protocols.errors import ProtocolError
from protocols.shares.party import MpcParty

__all__ = ["ShardGroup", "chunks"]


class ShardGroup:
    """All shards of one party. Its own rank searches the first shard, whose lock is taken first and covers its folder.

    Args:
        source: of correlations, for the first shard.
        others: the shards on other ranks.
        folder: of the own rank's index. Other ranks have folders of their own.
        dimension: of the templates.
        seed: returns the party's seed; called while the own lock is held alone. Each shard's seed is derived from it.
    """

    def __init__(
        self,
        source: CorrelationSource,
        others: Sequence[RemoteShard],
        folder: IndexFolder,
        dimension: int,
        seed: Callable[[], bytes],
    ) -> None:
        self._source, self._others, self._folder = source, others, folder
        self._dimension, self._read_seed = dimension, seed
        self._seed = b""
        self._shard: Shard | None = None
        self._parts: list[Part] = []

    @classmethod
    def open(
        cls,
        source: CorrelationSource,
        others: Sequence[RemoteShard],
        folder: Path,
        lineage: bytes,
        seed: bytes,
        dimension: int,
    ) -> "ShardGroup":
        """Return the shards of a gallery that no other session uses, under a seed that does not change."""
        group = cls(source, others, IndexFolder(folder, lineage), dimension, lambda: seed)
        group._follow_seed()
        return group

    @property
    def count(self) -> int:
        """The number of shards."""
        return 1 + len(self._others)

    @property
    def _own(self) -> Shard:
        if self._shard is None:
            raise ProtocolError("expected shards that have a seed, got none: update the index first")
        return self._shard

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold all indexes alone, under the party's seed as it is now.

        Raises:
            StoreError: another session holds an index for too long.
        """
        with self._folder.locked():
            self._follow_seed()
            self._own.refresh()
            with self._holding_others(shared=False):
                yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold all indexes together with other readers.

        Raises:
            IndexChangedError: another process has changed an index.
            StoreError: as for `writing`.
        """
        with self._own.reading(), self._holding_others(shared=True):
            yield

    def _follow_seed(self) -> None:
        """If the party's seed has changed, open the shards anew, each under a seed of its own."""
        if (seed := self._read_seed()) == self._seed:
            return
        self._seed, count, group = seed, self.count, group_of(seed)
        for number, other in enumerate(self._others, start=1):
            other.open(self._folder.lineage, shard_seed(seed, number, count), self._dimension, number, group)
        if self._shard:
            self._shard.discard()
        own = shard_seed(seed, 0, count)
        self._shard = Shard(self._source, self._folder, own, self._dimension, 0, group)

    def states(self) -> list[tuple[bytes, str]]:
        """Return the state of every index, which the client sends to the server."""
        waiting = [other.state() for other in self._others]
        return [self._own.state(), *(wait() for wait in waiting)]

    def agree(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """Return the builds, on the server: see `Shard.agree`."""
        waiting = [other.agree(one) for other, one in zip(self._others, wanted[1:], strict=True)]
        return [self._own.agree(wanted[0]), *(wait() for wait in waiting)]

    def begin(self, builds: Sequence[bytes]) -> None:
        """Take the builds that the parties agreed on."""
        waiting = [other.begin(build) for other, build in zip(self._others, builds[1:], strict=True)]
        self._own.begin(builds[0])
        for wait in waiting:
            wait()

    def arrange(self, parts: Sequence[Part]) -> list[Numbers]:
        """Give every shard its part; return the rows that each shard has not indexed yet."""
        self._parts = list(parts)
        waiting = [other.arrange(part) for other, part in zip(self._others, parts[1:], strict=True)]
        return [self._own.arrange(parts[0]), *(wait() for wait in waiting)]

    def extend(self, party: MpcParty, additions: Sequence[tuple[Numbers, RingArray]]) -> None:
        """Index some rows on each shard."""
        waiting = [other.extend(*one) for other, one in zip(self._others, additions[1:], strict=True)]
        self._own.extend(party, *additions[0])
        for wait in waiting:
            wait()

    def prepare(self, top: int) -> None:
        """Make the correlations of one search on each shard."""
        waiting = [other.prepare(top) for other in self._others]
        self._own.prepare(top)
        for wait in waiting:
            wait()

    def winners(self, top: int) -> list[int]:
        """Return the number of keys that each shard finds."""
        return [min(top, len(part.sizes)) for part in self._parts]

    def find(self, party: MpcParty, probe: RingArray, top: int, bits: int) -> list[RingArray]:
        """Return the keys of the nearest identities of each shard."""
        counts = self.winners(top)[1:]
        waiting = [other.find(probe, top, bits, count) for other, count in zip(self._others, counts, strict=True)]
        return [self._own.find(party, probe, top, bits), *(wait() for wait in waiting)]

    def erase(self) -> None:
        """Remove all indexes of the gallery, and a server's seed. The caller holds all indexes alone.

        Raises:
            StoreError: a file could not be removed.
        """
        waiting = [other.erase() for other in self._others]
        try:
            self._own.erase()
        finally:
            for wait in waiting:
                wait()

    def end(self) -> None:
        """Let the other ranks end."""
        for other in self._others:
            other.end()

    @contextmanager
    def _holding_others(self, shared: bool) -> Iterator[None]:
        """Hold the other ranks' locks. If an error leaves a rank in the middle of a step, they end with the session."""
        held: list[RemoteShard] = []
        try:
            for other in self._others:  # in this order on all ranks, so that two sessions never wait for each other
                other.hold(shared)()
                held.append(other)
            yield
        finally:
            if all(other.is_idle for other in self._others):
                for other in held:
                    other.release()()


def chunks(rows: Sequence[Numbers], size: int) -> Iterator[list[Numbers]]:
    """Yield `size` rows of every shard at a time. A shard with fewer rows than others gets empty arrays at the end."""
    for start in range(0, max(map(len, rows)), size):
        yield [one[start : start + size] for one in rows]
