"""A rank that searches one shard of a gallery for its party: it does what the party's own rank asks, and nothing else.

It holds what its party holds for this: shares of the shard's templates while they are indexed, the seed of the shard's
masks, the index, and shares of probes. See `remote` for the other end.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from parties.gallery.errors import IndexChangedError, RefusalError
from parties.gallery.index.directory import Part
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.index.folder import IndexFolder
from parties.gallery.index.search import TOP_MAX
from parties.gallery.shards.shard import Shard, Wanted
from parties.session.correlations import Correlations
from parties.session.source import open_source
from protocols.arithmetic.randomness import KEY_BYTES
from protocols.channel import IDLE_SECONDS, Channel, ChannelStatistics, printable
from protocols.correlations.fixed_mask import MAX_ROWS
from protocols.errors import ProtocolError
from protocols.shares.party import MpcParty

__all__ = ["ShardRank"]

_MAX_DIMENSION, _MAX_BITS = 1 << 12, 32

Job = dict[str, Any]


class ShardRank:
    """The rank's end.

    Args:
        rank: of its party: client or server.
        parent: channel to its party's own rank.
        peer: channel to the shard of the other party.
        dealer: channel to the shard's dealer; None without one.
        correlations: who makes them.
        folder: for the index.
    """

    def __init__(
        self,
        rank: int,
        parent: Channel,
        peer: Channel,
        dealer: Channel | None,
        folder: Path,
        correlations: Correlations,
    ) -> None:
        self._rank, self._parent, self._peer, self._folder = rank, parent, peer, folder
        self._dealt = dealer.statistics if dealer else ChannelStatistics()
        self._source = open_source(rank, correlations, peer, dealer)
        self._shard: Shard | None = None
        self._held = ExitStack()
        self._dimension = 0
        self._told = (0, 0, 0, 0)
        self._jobs: dict[str, Callable[[Job], None]] = {
            "hold": self._hold,
            "release": self._release,
            "state": self._state,
            "agree": self._agree,
            "begin": self._begin,
            "arrange": self._arrange,
            "extend": self._extend,
            "prepare": self._prepare,
            "find": self._find,
            "erase": self._erase,
        }

    def serve(self) -> None:
        """Do jobs until the last.

        Raises:
            ProtocolError: a job is malformed. PeerLostError: a rank is gone.
        """
        with self._held:
            while (job := self._parent.receive_document("shard", IDLE_SECONDS)).get("job") != "end":
                if job.get("job") == "open":
                    self._open(job)
                    continue
                work = self._jobs.get(str(job.get("job")))
                if work is None or self._shard is None:
                    raise ProtocolError(f"expected a job of a shard, got {printable(job)}")
                work(job)
        self._source.end()

    @property
    def shard(self) -> Shard:
        """The shard, once it is open."""
        if self._shard is None:
            raise ProtocolError("expected an open shard, got none")
        return self._shard

    def _open(self, job: Job) -> None:
        seed = self._parent.receive("shard/seed", np.uint8, (KEY_BYTES,)).tobytes()
        self._dimension = _number(job, "dimension", _MAX_DIMENSION)
        lineage, group = bytes.fromhex(str(job.get("lineage"))), str(job.get("group"))
        if not re.fullmatch("[0-9a-f]{16}", group):
            raise ProtocolError(f"expected the name of a group of indexes, got {printable(group)}")
        folder = IndexFolder(self._folder, lineage, self._parent.timeout / 2)
        number = _number(job, "number", MAX_ROWS)
        if self._shard:
            self._shard.discard()
        self._shard = Shard(self._source, folder, seed, self._dimension, number, group)

    def _hold(self, job: Job) -> None:
        how = self.shard.reading if job.get("shared") is True else self.shard.writing
        try:
            self._held.enter_context(how())
        except IndexChangedError as error:
            self._done(changed=str(error))
        except RefusalError as error:
            self._done(refused=str(error))
        else:
            self._done()

    def _release(self, job: Job) -> None:
        self._held.close()
        self._done()

    def _state(self, job: Job) -> None:
        build, digest = self.shard.state()
        self._done(build=build.hex(), digest=digest)

    def _agree(self, job: Job) -> None:
        build, fresh = (bytes.fromhex(str(job.get(name))) for name in ("build", "fresh"))
        rows, most = (_number(job, name, MAX_ROWS) for name in ("rows", "most"))
        wanted = Wanted(build, str(job.get("digest")), fresh, rows, most)
        self._done(build=self.shard.agree(wanted).hex())

    def _begin(self, job: Job) -> None:
        build = bytes.fromhex(str(job.get("build")))
        if len(build) != BUILD_BYTES:
            raise ProtocolError(f"expected a build's number, got {printable(job)}")
        self.shard.begin(build)
        self._done()

    def _arrange(self, job: Job) -> None:
        rows, identities = _number(job, "rows", MAX_ROWS), _number(job, "identities", MAX_ROWS)
        sizes = {"rows": rows, "sizes": identities, "numbers": identities}
        part = Part(**{name: self._parent.receive(f"shard/{name}", np.int64, (n,)) for name, n in sizes.items()})
        missing = self.shard.arrange(part)
        self._done(missing=len(missing))
        self._parent.send("shard/missing", missing)

    def _extend(self, job: Job) -> None:
        count = _number(job, "rows", MAX_ROWS)
        rows = self._parent.receive("shard/rows", np.int64, (count,))
        templates = self._parent.receive("shard/templates", np.uint64, (count, self._dimension))
        with self._party() as party:
            self.shard.extend(party, rows, templates)
        self._done()

    def _prepare(self, job: Job) -> None:
        self.shard.prepare(_number(job, "top", TOP_MAX))
        self._done()

    def _find(self, job: Job) -> None:
        probe = self._parent.receive("shard/probe", np.uint64, (self._dimension,))
        with self._party() as party:
            keys = self.shard.find(party, probe, _number(job, "top", TOP_MAX), _number(job, "bits", _MAX_BITS))
        self._done()
        self._parent.send("shard/keys", keys)

    def _erase(self, job: Job) -> None:
        try:
            self.shard.erase()
        except RefusalError as error:
            self._done(refused=str(error))
        else:
            self._done()

    def _party(self) -> MpcParty:
        return MpcParty(self._rank, self._peer, self._source)

    def _done(self, **fields: Any) -> None:
        """Answer, and tell what was sent and received since the last answer."""
        peer, dealer = self._peer.statistics, self._dealt
        now = peer.bytes_sent, peer.bytes_received, dealer.bytes_sent, dealer.bytes_received
        traffic = [new - old for new, old in zip(now, self._told, strict=True)]
        self._told = now
        self._parent.send_document("done", {**fields, "traffic": traffic})


def _number(job: Job, name: str, most: int) -> int:
    value = job.get(name)
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ProtocolError(f"expected {name} of at most {most}, got {printable(value)}")
    return value
