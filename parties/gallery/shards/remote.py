"""Use a shard on another rank of the same party, from the party's own rank: see `rank` for the other end.

Both ranks belong to one organisation. Their channel carries the party's shares of templates and of the probe, and the
seed of the shard's masks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from parties.gallery.errors import IndexChangedError, RefusalError
from parties.gallery.index.directory import Numbers, Part
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.shards.shard import Wanted
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import Channel, ChannelStatistics, printable
from protocols.document import Document, hexadecimal, integer, list_of, optional, text
from protocols.errors import reason_for_peers

__all__ = ["DIGEST_DIGITS", "RemoteShard", "ShardTraffic"]

DIGEST_DIGITS = 64
"""Largest number of digits of an index's digest. The empty digest is accepted, too."""

_MAX_REASON = 1000

Wait = Callable[[], Any]


class RemoteShard:
    """A shard on another rank of this party. Most methods start a step and return a function that waits for its end.

    Args:
        channel: to that rank.
        traffic: counts what the rank sends and receives.
    """

    def __init__(self, channel: Channel, traffic: "ShardTraffic") -> None:
        self._channel, self._traffic = channel, traffic
        self._begun = 0

    @property
    def is_idle(self) -> bool:
        """Whether this rank has waited for the end of every step. If not, the other rank takes no new step."""
        return not self._begun

    def open(self, lineage: bytes, seed: bytes, dimension: int, number: int, group: str) -> None:
        """Tell the rank the gallery's lineage and dimension, and the shard's seed, number (from 1) and group."""
        where = {"lineage": lineage.hex(), "dimension": dimension, "number": number, "group": group}
        self._channel.send_document("shard", {"job": "open", **where})
        self._channel.send("shard/seed", np.frombuffer(seed, dtype=np.uint8))

    def hold(self, shared: bool) -> Wait:
        """Take the index's lock, alone or shared."""
        return self._ended(self._begin("hold", shared=shared))

    def release(self) -> Wait:
        """Give up the lock."""
        return self._ended(self._begin("release"))

    def state(self) -> Wait:
        """Do `Shard.state`."""
        wait = self._begin("state")

        def result() -> tuple[bytes, str]:
            with wait() as answer:
                return answer.take("build", hexadecimal(0, BUILD_BYTES)), answer.take("digest", text(DIGEST_DIGITS))

        return result

    def agree(self, wanted: Wanted) -> Wait:
        """Do `Shard.agree`."""
        names = {"build": wanted.build.hex(), "fresh": wanted.fresh.hex(), "digest": wanted.digest}
        wait = self._begin("agree", **names, rows=wanted.rows, most=wanted.most)

        def result() -> bytes:
            with wait() as answer:
                return answer.take("build", hexadecimal(BUILD_BYTES))

        return result

    def begin(self, build: bytes) -> Wait:
        """Do `Shard.begin`."""
        return self._ended(self._begin("begin", build=build.hex()))

    def arrange(self, part: Part) -> Wait:
        """Do `Shard.arrange`."""
        wait = self._begin("arrange", rows=len(part.rows), identities=len(part.sizes))
        for name in ("rows", "sizes", "numbers"):
            self._channel.send(f"shard/{name}", getattr(part, name))

        def result() -> Numbers:
            with wait() as answer:
                count = answer.take("missing", integer(0, len(part.rows)))
            return self._channel.receive("shard/missing", np.int64, (count,))

        return result

    def extend(self, rows: Numbers, templates: RingArray) -> Wait:
        """Do `Shard.extend`."""
        wait = self._begin("extend", rows=len(rows))
        self._channel.send("shard/rows", rows)
        self._channel.send("shard/templates", templates)
        return self._ended(wait)

    def prepare(self, top: int) -> Wait:
        """Do `Shard.prepare`."""
        return self._ended(self._begin("prepare", top=top))

    def find(self, probe: RingArray, top: int, bits: int, count: int) -> Wait:
        """Do `Shard.find`, which returns `count` keys."""
        wait = self._begin("find", top=top, bits=bits)
        self._channel.send("shard/probe", probe)

        def result() -> RingArray:
            wait().end()
            return self._channel.receive("shard/keys", np.uint64, (count,))

        return result

    def erase(self) -> Wait:
        """Do `Shard.erase`."""
        return self._ended(self._begin("erase"))

    def end(self) -> None:
        """Let the rank end."""
        self._channel.send_document("shard", {"job": "end"})

    def fail(self, error: BaseException) -> None:
        """Tell the rank that its party ends."""
        self._channel.send_error(reason_for_peers(error))

    def _begin(self, job: str, **fields: Any) -> Callable[[], Document]:
        self._channel.send_document("shard", {"job": job, **fields})
        self._begun += 1
        return self._done

    @staticmethod
    def _ended(wait: Callable[[], Document]) -> Wait:
        """Return a function that waits for an answer without fields."""
        return lambda: wait().end()

    def _done(self) -> Document:
        answer = self._channel.receive_document("done")
        changed, refused = (answer.take(name, optional(text(_MAX_REASON))) for name in ("changed", "refused"))
        self._traffic.add(answer.take("traffic", list_of(integer(), 4, 4)))
        self._begun -= 1
        if changed is not None:
            raise IndexChangedError(printable(changed, 200))
        if refused is not None:
            raise RefusalError(printable(refused, 200))
        return answer


class ShardTraffic:
    """The traffic of the other shards' ranks: with the other party, and with their dealers."""

    def __init__(self) -> None:
        self.peer, self.dealer = ChannelStatistics(), ChannelStatistics()

    def add(self, numbers: list[int]) -> None:
        """Add a rank's four numbers of bytes: sent to and received from the peer, then the dealer."""
        sent, received, to_dealer, from_dealer = numbers
        self.peer.bytes_sent += sent
        self.peer.bytes_received += received
        self.dealer.bytes_sent += to_dealer
        self.dealer.bytes_received += from_dealer
