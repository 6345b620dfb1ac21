"""All shards of a gallery, as one party uses them: its own rank searches the first, other ranks of its own the others.

A shard is three ranks: one of the client's, one of the server's, one that deals to the two. The client's and the
server's ranks are within their organisations: they get what their party may know (its share of the templates and of
the probe, its seed), over a channel that must not leave the organisation unprotected. Nobody else sees more than
without shards.

Each step is begun on all other ranks, done here, then awaited.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parties.gallery.directory import Numbers, Part
from parties.gallery.errors import IndexChangedError, StoreError
from parties.gallery.index_file import BUILD_BYTES
from parties.gallery.index_folder import IndexFolder, group_of
from parties.gallery.shard import Shard, Wanted, shard_seed
from protocols.channel import Channel, ChannelStatistics, printable
from protocols.correlations import CorrelationSource
from protocols.errors import ProtocolError, reason_for_peers
from protocols.mpc import MpcParty
from protocols.ring import RingArray

__all__ = ["RemoteShard", "ShardGroup", "Traffic", "chunks"]

Wait = Callable[[], Any]


class RemoteShard:
    """A shard on another rank of this party: each method begins a step, and returns what waits for its end.

    Args:
        channel: to that rank.
        traffic: where what the rank has sent and received is added.
    """

    def __init__(self, channel: Channel, traffic: "Traffic") -> None:
        self._channel, self._traffic = channel, traffic
        self._begun = 0

    @property
    def is_idle(self) -> bool:
        """Whether the end of every step has been awaited; if not, the rank takes no other."""
        return not self._begun

    def open(self, lineage: bytes, seed: bytes, dimension: int, number: int, group: str) -> None:
        """Say which gallery it is about, and which shard it is, from 1."""
        where = {"lineage": lineage.hex(), "dimension": dimension, "number": number, "group": group}
        self._channel.send_document("shard", {"job": "open", **where})
        self._channel.send("shard/seed", np.frombuffer(seed, dtype=np.uint8))

    def hold(self, shared: bool) -> Wait:
        """Take the index's lock, alone or shared."""
        return self._begin("hold", shared=shared)

    def release(self) -> Wait:
        """Give up the lock."""
        return self._begin("release")

    def state(self) -> Wait:
        """As `Shard.state`."""
        wait = self._begin("state")

        def result() -> tuple[bytes, str]:
            answer = wait()
            return _build(answer.get("build"), empty=True), str(answer.get("digest"))

        return result

    def agree(self, wanted: Wanted) -> Wait:
        """As `Shard.agree`."""
        names = {"build": wanted.build.hex(), "fresh": wanted.fresh.hex(), "digest": wanted.digest}
        wait = self._begin("agree", **names, rows=wanted.rows, most=wanted.most)
        return lambda: _build(wait().get("build"))

    def begin(self, build: bytes) -> Wait:
        """As `Shard.begin`."""
        return self._begin("begin", build=build.hex())

    def arrange(self, part: Part) -> Wait:
        """As `Shard.arrange`."""
        wait = self._begin("arrange", rows=len(part.rows), identities=len(part.sizes))
        for name in ("rows", "sizes", "numbers"):
            self._channel.send(f"shard/{name}", getattr(part, name))

        def result() -> Numbers:
            count = wait().get("missing")
            if not isinstance(count, int) or not 0 <= count <= len(part.rows):
                raise ProtocolError(f"expected how many rows are missing, got {printable(count)}")
            return self._channel.receive("shard/missing", np.int64, (count,))

        return result

    def extend(self, rows: Numbers, templates: RingArray) -> Wait:
        """As `Shard.extend`."""
        wait = self._begin("extend", rows=len(rows))
        self._channel.send("shard/rows", rows)
        self._channel.send("shard/templates", templates)
        return wait

    def prepare(self, top: int) -> Wait:
        """As `Shard.prepare`."""
        return self._begin("prepare", top=top)

    def find(self, probe: RingArray, top: int, bits: int, count: int) -> Wait:
        """As `Shard.find`, for so many keys."""
        wait = self._begin("find", top=top, bits=bits)
        self._channel.send("shard/probe", probe)

        def result() -> RingArray:
            wait()
            return self._channel.receive("shard/keys", np.uint64, (count,))

        return result

    def erase(self) -> Wait:
        """As `Shard.erase`."""
        return self._begin("erase")

    def end(self) -> None:
        """Let the rank end."""
        self._channel.send_document("shard", {"job": "end"})

    def fail(self, error: BaseException) -> None:
        """Tell the rank that its party ends."""
        self._channel.send_error(reason_for_peers(error))

    def _begin(self, job: str, **fields: Any) -> Wait:
        self._channel.send_document("shard", {"job": job, **fields})
        self._begun += 1
        return self._done

    def _done(self) -> dict[str, Any]:
        answer = self._channel.receive_document("done")
        self._begun -= 1
        if (changed := answer.get("changed")) is not None:
            raise IndexChangedError(printable(changed, 200))
        if (reason := answer.get("refused")) is not None:
            raise StoreError(printable(reason, 200))
        self._traffic.add(answer.get("traffic"))
        return answer


class Traffic:
    """What the other shards' ranks have sent and received: between the parties, and from their dealers."""

    def __init__(self) -> None:
        self.peer, self.dealer = ChannelStatistics(), ChannelStatistics()

    def add(self, numbers: Any) -> None:
        """Add what a rank tells: four numbers of bytes."""
        match numbers:
            case [int(sent), int(received), int(to_dealer), int(from_dealer)]:
                self.peer.bytes_sent += sent
                self.peer.bytes_received += received
                self.dealer.bytes_sent += to_dealer
                self.dealer.bytes_received += from_dealer
            case _:
                raise ProtocolError(f"expected what a shard has sent and received, got {printable(numbers)}")


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


def _build(text: Any, empty: bool = False) -> bytes:
    try:
        build = bytes.fromhex(text)
    except (TypeError, ValueError):
        build = b"?"
    if len(build) != BUILD_BYTES and not (empty and not build):
        raise ProtocolError(f"expected a build's number, got {printable(text)}")
    return build
