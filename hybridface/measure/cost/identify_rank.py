"""Run one rank of the identification benchmark: client, server or dealer, for a whole synthetic gallery or a shard.

Client and server begin every measured block at the same moment. The client's rank also searches in the clear, for
comparison. `mpiexec` runs the ranks (see `identify`).
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.measure.cost.identify_task import IdentifyTask
from hybridface.measure.cost.meter import Meter
from parties.gallery.index.directory import Part
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.index.search import list_distances, list_query_requests, nearest_in_list, winners, winners_requests
from parties.gallery.key import GalleryKey
from parties.gallery.kind import GalleryKind
from parties.gallery.shards.group import ShardGroup
from parties.gallery.shards.rank import ShardRank
from parties.gallery.shards.remote import RemoteShard, ShardTraffic
from parties.gallery.store.records import Entry
from parties.session.correlations import Correlations
from parties.session.source import open_source
from parties.transport.roles import SHARD_ROLES, Role
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import keystream
from protocols.channel import CLIENT, SERVER, Channel
from protocols.correlations import Dealer
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey
from protocols.matching.names import SEALED_BYTES, SealedNames, look_up, open_name, seal_names
from protocols.matching.outcome import index_bits
from protocols.matching.reveal import Reveal
from protocols.matching.server_list import ServerListClient, ServerListServer
from protocols.shares.party import MpcParty

__all__ = ["main", "measure"]

_TIMEOUT_SECONDS = 1800.0
_SCOPE, _LINEAGE = bytes(16), bytes(range(16))
_KEY = GalleryKey(bytes(range(32)))
_MASK_SEEDS = bytes(range(1, 33)), bytes(range(2, 34))


class _Side(ABC):
    """One party of a benchmark."""

    def __init__(self, task: IdentifyTask, party: MpcParty, dealer: Channel | None, shards: Sequence[Channel]) -> None:
        self.task, self.party, self.traffic = task, party, ShardTraffic()
        self.is_client = party.rank == CLIENT
        self.meter = Meter(party.channel, dealer, self.traffic)
        self.others = [RemoteShard(channel, self.traffic) for channel in shards]
        self.said: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Build, then identify every probe. Return the cost; the client also returns how often it was right."""
        self.build()
        offline, online, found = [], [], []
        for number, probe in enumerate(self.task.probes().view(np.uint64)):
            share = keystream(bytes(32), number.to_bytes(16, "big"), self.task.dimension)
            with self.meter as spent:
                self.prepare()
            offline.append(spent)
            with self.meter as spent:
                found.append(self.identify(share if self.is_client else probe - share))
            online.append(spent)
        self.said |= {"offline": offline[1:], "online": online[1:]}
        if self.is_client:
            expected = self.task.expected()
            right = [a == b for a, b in zip(found, expected, strict=True)]
            self.said |= {"found": sum(i is not None for i in expected), "right": sum(right), "probes": len(right)}
        return self.said

    @abstractmethod
    def build(self) -> None:
        """Build the index, or encode the list."""

    @abstractmethod
    def prepare(self) -> None:
        """Do the offline phase of an identification."""

    @abstractmethod
    def identify(self, probe: RingArray) -> int | None:
        """Return the nearest template's number at the client, if it is below the threshold; else None."""


class _Private(_Side):
    """A party of a private gallery."""

    def build(self) -> None:
        """Index the templates in chunks, and the last template alone."""
        task, rank = self.task, self.party.rank
        folder = task.folder / f"rank {rank}"
        where = folder, _LINEAGE, _MASK_SEEDS[rank], task.dimension
        source = self.party.correlations
        self.group = ShardGroup.open(source, self.others, *where)
        self.group.begin([bytes([shard]) * BUILD_BYTES for shard in range(self.group.count)])
        spent: list[dict[str, float]] = []
        for first, templates in task.chunks():
            shares = self._shares(first, templates)
            is_last = first + len(templates) == task.size
            for part in (slice(None, -1), slice(-1, None)) if is_last else (slice(None),):
                rows = np.arange(first, first + len(templates))[part] + 1
                if len(rows):
                    spent.append(self._extend(rows, shares[part]))
        self.said["build"] = {key: sum(one[key] for one in spent) for key in spent[0]}
        self.said["one_more"] = spent[-1]
        self.said["index_bytes"] = sum(path.stat().st_size for path in folder.iterdir())

    def _shares(self, first: int, templates: NDArray[np.int64]) -> RingArray:
        start = time.perf_counter()
        entries = [_entry(first + i) for i in range(len(templates))]
        shares = _KEY.shares_of(_SCOPE, entries, self.task.dimension)
        self.said["share_seconds"] = self.said.get("share_seconds", 0.0) + time.perf_counter() - start
        return shares if self.is_client else templates.view(np.uint64) - shares

    def _extend(self, rows: NDArray[np.int64], shares: RingArray) -> dict[str, float]:
        """Index the templates of some rows, each at its shard."""
        count = self.group.count
        enrolled = np.arange(1, rows[-1] + 1)
        with self.meter as measured:
            self.group.arrange([_part(enrolled[enrolled % count == shard]) for shard in range(count)])
            mine = [rows % count == shard for shard in range(count)]
            self.group.extend(self.party, [(rows[one], shares[one]) for one in mine])
        return measured

    def prepare(self) -> None:
        """Make the correlations."""
        self.group.prepare(1)
        self.party.correlations.prepare(winners_requests(self.group.winners(1), 1))

    def identify(self, probe: RingArray) -> int | None:
        """Compare, select and open."""
        bits = index_bits(self.task.size)
        keys = self.group.find(self.party, probe, 1, bits)
        return winners(self.party, keys, self.task.threshold, 1, bits, Reveal.CLIENT)[0]


class _List(_Side):
    """A party of a server's list."""

    def build(self) -> None:
        """Encode the list at the server, and send the sealed names to the client."""
        task, context = self.task, CkksContext()
        self.sizes = np.ones(task.size, dtype=np.int64)
        self.names: SealedNames | None = None
        self.keys: RingArray | None = None
        channel = self.party.channel
        side: ServerListClient | ServerListServer
        if self.is_client:
            keys = ClientKeys(context)
            channel.send("public key", keys.public_key())
            side = ServerListClient(keys, task.size, task.dimension)
            with self.meter as encoding:
                channel.receive("encoded", np.uint8, (1,))
        else:
            public_key = PublicKey(context, channel.receive("public key", np.uint64, (2, 2, context.degree)))
            templates = np.empty((task.size, task.dimension), dtype=np.int32)
            for start, part in task.chunks():
                templates[start : start + len(part)] = part
            with self.meter as encoding:
                side = ServerListServer(public_key, templates)
                channel.send("encoded", np.ones(1, dtype=np.uint8))
        self.side = side
        with self.meter as naming:
            if self.is_client:
                self.names = channel.receive("names", np.uint8, (task.size, SEALED_BYTES))
            else:
                names, self.keys = seal_names([_name(row) for row in range(task.size)])
                channel.send("names", names)
        self.said |= {"build": encoding, "names": naming}

    def prepare(self) -> None:
        """Do the homomorphic work, and make the correlations."""
        self.side.prepare(self.party.channel)
        self.party.correlations.prepare(list_query_requests(self.sizes, self.task.dimension, 1, Reveal.CLIENT))

    def identify(self, probe: RingArray) -> int | None:
        """Compare, select and open; look up the name, and return the number in it."""
        found = list_distances(self.party, self.side, self.sizes, probe)
        indices = nearest_in_list(self.party, found, self.task.threshold, 1, Reveal.CLIENT)
        keys = look_up(self.party, self.task.size, indices=indices, keys=self.keys)
        if indices[0] is None or keys is None or self.names is None:
            return None
        return int(open_name(self.names, indices[0], keys[0]).split()[1])


def _name(row: int) -> str:
    return f"person {row:09}"


def _entry(row: int) -> Entry:
    return Entry(row + 1, _name(row), 1, 1)


def _part(rows: NDArray[np.int64]) -> Part:
    return Part(rows, np.ones_like(rows), rows - 1)


def measure(
    task: IdentifyTask, party: MpcParty, dealer: Channel | None = None, shards: Sequence[Channel] = ()
) -> dict[str, Any]:
    """Run one party: build, then identify. Return the cost; the client also returns how often it was right."""
    side = (_Private if task.kind is GalleryKind.PRIVATE else _List)(task, party, dealer, shards)
    said = side.run()
    for other in side.others:
        other.end()
    return said


def _be_party(
    task: IdentifyTask, rank: int, channels: dict[Role, Channel], shards: Sequence[Channel], correlations: Correlations
) -> dict[str, Any]:
    peer, dealer = channels[Role.SERVER if rank == CLIENT else Role.CLIENT], channels.get(Role.DEALER)
    source = open_source(rank, correlations, peer, dealer)
    with MpcParty(rank, peer, source) as party:
        said = measure(task, party, dealer, shards)
    if rank == CLIENT:
        source.end()
    return said


def _be_shard(role: Role, channels: dict[Role, Channel], folder: Path, correlations: Correlations) -> None:
    if role is Role.DEALER_SHARD:
        Dealer(channels[Role.CLIENT_SHARD], channels[Role.SERVER_SHARD]).serve()
        return
    rank, peer = (CLIENT, Role.SERVER_SHARD) if role is Role.CLIENT_SHARD else (SERVER, Role.CLIENT_SHARD)
    ranks = channels[role.party], channels[peer], channels.get(Role.DEALER_SHARD)
    ShardRank(rank, *ranks, folder / f"rank {rank}", correlations).serve()


def main(name: str, kind: str, size: str, runs: str, threshold: str, folder: str, made: str) -> int:
    """Run one rank of the benchmark, and return its exit status."""
    from hybridface.measure.cost.rank_main import rank_main

    role, correlations = Role(name), Correlations(made)
    roles = (Role.CLIENT, Role.SERVER, *((Role.DEALER,) if correlations.needs_dealer else ()))

    def work(world: Any) -> dict[str, Any]:
        if role in SHARD_ROLES:
            _be_shard(role, world.channels_of_shard(), Path(folder), correlations)
            return {}
        channels = {other: world.channel(other) for other in roles if other is not role}
        if role is Role.DEALER:
            Dealer(*channels.values()).serve()
            return {}
        task = IdentifyTask(GalleryKind(kind), int(size), int(runs), float(threshold), Path(folder))
        rank = CLIENT if role is Role.CLIENT else SERVER
        return _be_party(task, rank, channels, world.shards_of(role), correlations)

    return rank_main(role, work, roles, _TIMEOUT_SECONDS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
