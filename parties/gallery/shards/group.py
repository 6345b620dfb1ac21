"""All shards of a gallery, as one party uses them: its own rank searches the first, other ranks of its own the others.

A shard is three ranks: one of the client's, one of the server's, one that deals to the two. The client's and the
server's ranks are within their organisations: they get what their party may know (its share of the templates and of
the probe, its seed), over a channel that must not leave the organisation unprotected. Nobody else sees more than
without shards.

Each step is begun on all other ranks (`remote`), done here, then awaited.
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
    """All shards of one party. Its own rank searches the first; its lock is taken first, and covers its folder.

    Args:
        source: of correlations, for the first.
        others: on other ranks.
        folder: of the own rank's index; other ranks have theirs.
        dimension: of the templates.
        seed: gives the party's seed, when the own lock is held alone; a shard's is derived from it.
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
        """Return the shards of a gallery that nobody else uses, under a seed that stays."""
        group = cls(source, others, IndexFolder(folder, lineage), dimension, lambda: seed)
        group._follow_seed()
        return group

    @property
    def count(self) -> int:
        """How many shards there are."""
        return 1 + len(self._others)

    @property
    def _own(self) -> Shard:
        if self._shard is None:
            raise ProtocolError("expected shards that have a seed, got none: the index comes first")
        return self._shard

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold all indexes alone, under the party's seed as it is now.

        Raises:
            StoreError: others hold one for too long.
        """
        with self._folder.locked():
            self._follow_seed()
            self._own.refresh()
            with self._holding_others(shared=False):
                yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold all indexes with others.

        Raises:
            IndexChangedError: one was changed by another process. StoreError: as for `writing`.
        """
        with self._own.reading(), self._holding_others(shared=True):
            yield

    def _follow_seed(self) -> None:
        """Open the shards anew, each under a seed of its own, if the party's is another than it was."""
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
        """Return the state of every index, for the server."""
        waiting = [other.state() for other in self._others]
        return [self._own.state(), *(wait() for wait in waiting)]

    def agree(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """Return the builds, on the server: see `Shard.agree`."""
        waiting = [other.agree(one) for other, one in zip(self._others, wanted[1:], strict=True)]
        return [self._own.agree(wanted[0]), *(wait() for wait in waiting)]

    def begin(self, builds: Sequence[bytes]) -> None:
        """Take the builds that were agreed."""
        waiting = [other.begin(build) for other, build in zip(self._others, builds[1:], strict=True)]
        self._own.begin(builds[0])
        for wait in waiting:
            wait()

    def arrange(self, parts: Sequence[Part]) -> list[Numbers]:
        """Give every shard its part; return the rows that each has not indexed yet."""
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
        """Make the correlations of a search on each shard."""
        waiting = [other.prepare(top) for other in self._others]
        self._own.prepare(top)
        for wait in waiting:
            wait()

    def winners(self, top: int) -> list[int]:
        """Return how many keys each shard finds."""
        return [min(top, len(part.sizes)) for part in self._parts]

    def find(self, party: MpcParty, probe: RingArray, top: int, bits: int) -> list[RingArray]:
        """Return the keys of the nearest identities of each shard."""
        counts = self.winners(top)[1:]
        waiting = [other.find(probe, top, bits, count) for other, count in zip(self._others, counts, strict=True)]
        return [self._own.find(party, probe, top, bits), *(wait() for wait in waiting)]

    def erase(self) -> None:
        """Remove all indexes of the gallery, and a server's seed; the caller holds all of them alone.

        Raises:
            StoreError: something is still there.
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
        """Hold the other ranks' locks; if an error leaves a rank in the midst of a step, they go with the session."""
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
    """Yield the rows of every shard some at a time; a shard that has fewer than others gets empty ones at the end."""
    for start in range(0, max(map(len, rows)), size):
        yield [one[start : start + size] for one in rows]
