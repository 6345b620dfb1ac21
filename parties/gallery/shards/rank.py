"""Run a rank that searches one shard of a gallery for its party. It does only what the party's own rank asks.

The rank holds its party's data for this task: shares of the shard's templates while it indexes them, the seed of the
shard's masks, the index, and shares of probes. See `remote` for the other end.
"""

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
from parties.gallery.shards.remote import DIGEST_DIGITS
from parties.gallery.shards.shard import Shard, Wanted
from parties.session.correlations import Correlations
from parties.session.source import open_source
from protocols.arithmetic.randomness import KEY_BYTES
from protocols.channel import IDLE_SECONDS, Channel, ChannelStatistics
from protocols.correlations.fixed_mask import MAX_ROWS
from protocols.document import Document, boolean, hexadecimal, integer, text, word
from protocols.errors import ProtocolError
from protocols.shares.party import MpcParty

__all__ = ["ShardRank"]

_MAX_DIMENSION, _MAX_BITS = 1 << 12, 32

Job = Document


class ShardRank:
    """The rank's end of a remote shard.

    Args:
        rank: of its party: client or server.
        parent: channel to its party's own rank.
        peer: channel to the other party's rank of this shard.
        dealer: channel to the shard's dealer; None without a dealer.
        folder: for the index.
        correlations: who makes them.
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
            "open": self._open,
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
        """Do jobs until the job "end".

        Raises:
            ProtocolError: a job is malformed.
            PeerLostError: a rank is gone.
        """
        with self._held:
            while (job := self._parent.receive_document("shard", IDLE_SECONDS)).fields.get("job") != "end":
                self._jobs[job.take("job", word(*self._jobs))](job)
            job.take("job", word("end"))
            job.end()
        self._source.end()

    @property
    def shard(self) -> Shard:
        """The shard, after the job "open"."""
        if self._shard is None:
            raise ProtocolError("expected an open shard, got none")
        return self._shard

    def _open(self, job: Job) -> None:
        seed = self._parent.receive("shard/seed", np.uint8, (KEY_BYTES,)).tobytes()
        self._dimension = job.take("dimension", integer(2, _MAX_DIMENSION))
        if self._dimension % 2:
            raise ProtocolError("expected embeddings of an even dimension, got an odd one")
        lineage, group = job.take("lineage", hexadecimal(16)), job.take("group", hexadecimal(8)).hex()
        folder = IndexFolder(self._folder, lineage, self._parent.timeout / 2)
        number = job.take("number", integer(0, MAX_ROWS))
        job.end()
        if self._shard:
            self._shard.discard()
        self._shard = Shard(self._source, folder, seed, self._dimension, number, group)

    def _hold(self, job: Job) -> None:
        how = self.shard.reading if job.take("shared", boolean) else self.shard.writing
        job.end()
        try:
            self._held.enter_context(how())
        except IndexChangedError as error:
            self._done(changed=str(error))
        except RefusalError as error:
            self._done(refused=str(error))
        else:
            self._done()

    def _release(self, job: Job) -> None:
        job.end()
        self._held.close()
        self._done()

    def _state(self, job: Job) -> None:
        job.end()
        build, digest = self.shard.state()
        self._done(build=build.hex(), digest=digest)

    def _agree(self, job: Job) -> None:
        build, fresh = job.take("build", hexadecimal(0, BUILD_BYTES)), job.take("fresh", hexadecimal(BUILD_BYTES))
        rows, most = (job.take(name, integer(0, MAX_ROWS)) for name in ("rows", "most"))
        wanted = Wanted(build, job.take("digest", text(DIGEST_DIGITS)), fresh, rows, most)
        job.end()
        self._done(build=self.shard.agree(wanted).hex())

    def _begin(self, job: Job) -> None:
        build = job.take("build", hexadecimal(BUILD_BYTES))
        job.end()
        self.shard.begin(build)
        self._done()

    def _arrange(self, job: Job) -> None:
        rows, identities = (job.take(name, integer(0, MAX_ROWS)) for name in ("rows", "identities"))
        job.end()
        sizes = {"rows": rows, "sizes": identities, "numbers": identities}
        part = Part(**{name: self._parent.receive(f"shard/{name}", np.int64, (n,)) for name, n in sizes.items()})
        missing = self.shard.arrange(part)
        self._done(missing=len(missing))
        self._parent.send("shard/missing", missing)

    def _extend(self, job: Job) -> None:
        count = job.take("rows", integer(0, MAX_ROWS))
        job.end()
        rows = self._parent.receive("shard/rows", np.int64, (count,))
        templates = self._parent.receive("shard/templates", np.uint64, (count, self._dimension))
        with self._party() as party:
            self.shard.extend(party, rows, templates)
        self._done()

    def _prepare(self, job: Job) -> None:
        top = job.take("top", integer(1, TOP_MAX))
        job.end()
        self.shard.prepare(top)
        self._done()

    def _find(self, job: Job) -> None:
        top, bits = job.take("top", integer(1, TOP_MAX)), job.take("bits", integer(1, _MAX_BITS))
        job.end()
        probe = self._parent.receive("shard/probe", np.uint64, (self._dimension,))
        with self._party() as party:
            keys = self.shard.find(party, probe, top, bits)
        self._done()
        self._parent.send("shard/keys", keys)

    def _erase(self, job: Job) -> None:
        job.end()
        try:
            self.shard.erase()
        except RefusalError as error:
            self._done(refused=str(error))
        else:
            self._done()

    def _party(self) -> MpcParty:
        return MpcParty(self._rank, self._peer, self._source)

    def _done(self, **fields: Any) -> None:
        """Answer with the fields, and with the traffic since the last answer."""
        peer, dealer = self._peer.statistics, self._dealt
        now = peer.bytes_sent, peer.bytes_received, dealer.bytes_sent, dealer.bytes_received
        traffic = [new - old for new, old in zip(now, self._told, strict=True)]
        self._told = now
        self._parent.send_document("done", {"changed": None, "refused": None, **fields, "traffic": traffic})
