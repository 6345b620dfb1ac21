"""Benchmark of identification, one rank of it: client, server or dealer of a gallery of synthetic templates.

Templates are random, of length about 1.4 like real embeddings, some at a time and from public seeds, so that no rank
holds them all unless its role must; some rows are real ones. All that is measured begins and ends between client and
server at once. The client's rank also searches in the clear, to compare. Run as ranks by `mpiexec`: see
`identify_bench`.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.gallery.index_file import IndexFile
from parties.gallery.key import GalleryKey
from parties.gallery.layout import Layout
from parties.gallery.list_server import list_query_requests
from parties.gallery.queries import (
    CHUNK_ROWS,
    extend_index,
    find_requests,
    list_distances,
    nearest,
    nearest_in_list,
    private_distances,
    selection_requests,
)
from parties.gallery.records import Entry, Kind
from protocols.channel import Channel
from protocols.ckks import CkksContext, ClientKeys, PublicKey
from protocols.correlations import Dealer, DealerClient, DealerServer
from protocols.errors import HybridFaceError
from protocols.identification.names import SEALED_BYTES, SealedNames, look_up, open_name, seal_names
from protocols.identification.server_list import ServerListClient, ServerListServer
from protocols.matching import Reveal
from protocols.mpc import CLIENT, SERVER, MpcParty
from protocols.randomness import keystream
from protocols.ring import FRACTION_BITS, RingArray, encode

__all__ = ["Task", "main", "measure", "synthetic"]

_SEED, _LENGTH, _NOISE = 20, 1.4, 0.025
_TIMEOUT_SECONDS = 1800.0
_SCOPE, _LINEAGE = bytes(16), bytes(range(16))
_KEY = GalleryKey(bytes(range(32)))
_MASK_SEEDS = bytes(range(1, 33)), bytes(range(2, 34))


@dataclass(frozen=True)
class Task:
    """What is measured.

    Args:
        kind: of the gallery.
        size: templates, one of each identity.
        runs: identifications, after one that does not count.
        threshold: Euclidean.
        folder: for the index; its file real.npy holds real embeddings, float64 (r, d), of which every other one is
            enrolled, and the one before it is a probe.
    """

    kind: Kind
    size: int
    runs: int
    threshold: float
    folder: Path
    real: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        real = np.load(self.folder / "real.npy", allow_pickle=False)
        object.__setattr__(self, "real", encode(real).view(np.int64))

    @property
    def dimension(self) -> int:
        """Of the templates."""
        return int(self.real.shape[1])

    def chunks(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield some templates at a time: the number of the first, and int64 (n, d), at 16 fractional bits."""
        enrolled = self.real[1::2]
        places = np.linspace(0, self.size - 1, len(enrolled) + 2).astype(np.int64)[1:-1]
        for start in range(0, self.size, CHUNK_ROWS):
            templates = synthetic(start, min(CHUNK_ROWS, self.size - start), self.dimension)
            for place, template in zip(places, enrolled, strict=True):
                if start <= place < start + len(templates):
                    templates[place - start] = template
            yield start, templates

    def probes(self) -> NDArray[np.int64]:
        """Return a probe for each run: real ones, then near a synthetic one, then far from all, again and again."""
        random = np.random.default_rng((_SEED, 1))
        last = synthetic((self.size - 1) // CHUNK_ROWS * CHUNK_ROWS, (self.size - 1) % CHUNK_ROWS + 1, self.dimension)
        near = last[-1] + np.rint(random.normal(0, _NOISE, self.dimension) * 2.0**FRACTION_BITS).astype(np.int64)
        far = np.rint(random.normal(0, _LENGTH / np.sqrt(self.dimension), self.dimension) * 2.0**FRACTION_BITS)
        every = [near, *self.real[0::2], far.astype(np.int64)]
        return np.stack([every[i % len(every)] for i in range(self.runs + 1)])

    def expected(self) -> list[int | None]:
        """Search in the clear: return the nearest template of each probe, or None if it is not near enough."""
        probes = self.probes()
        best = np.full((2, len(probes)), -1, dtype=np.int64)
        best[0] = 2**62
        for start, templates in self.chunks():
            products = templates.astype(np.float64) @ probes.T.astype(np.float64)  # exact: sums below 2^53
            found = (templates**2).sum(axis=1)[:, None] + (probes**2).sum(axis=1) - 2 * products.astype(np.int64)
            rows = found.argmin(axis=0)
            values = found[rows, np.arange(len(probes))]
            better = values < best[0]
            best[:, better] = np.stack([values, start + rows])[:, better]
        bound = int(encode(self.threshold**2, 2 * FRACTION_BITS))
        return [int(row) if value < bound else None for value, row in best.T]


def synthetic(start: int, count: int, dimension: int) -> NDArray[np.int64]:
    """Return random templates, int64 (count, d) at 16 fractional bits; the first one's number selects the seed."""
    random = np.random.default_rng((_SEED, 0, start))
    reals = random.standard_normal((count, dimension), dtype=np.float32) * np.float32(_LENGTH / np.sqrt(dimension))
    return np.rint(reals * np.float32(2**FRACTION_BITS)).astype(np.int64)


class _Meter:
    """Seconds, bytes and rounds of a block that both sides begin at once."""

    def __init__(self, party: MpcParty, dealer: Channel) -> None:
        self._channel, self._dealer = party.channel, dealer

    def __enter__(self) -> dict[str, float]:
        self._channel.exchange("benchmark/start", np.zeros(1, dtype=np.uint64))
        self._before = self._counters()
        self.spent: dict[str, float] = {}
        return self.spent

    def __exit__(self, *_: object) -> None:
        self.spent |= {key: value - self._before[key] for key, value in self._counters().items()}

    def _counters(self) -> dict[str, float]:
        own, dealer = self._channel.statistics, self._dealer.statistics
        return {
            "seconds": time.perf_counter(),
            "waited": own.wait_seconds + dealer.wait_seconds,
            "sent": own.bytes_sent,
            "received": own.bytes_received,
            "rounds": own.rounds,
            "dealer": dealer.bytes_received,
        }


class _Side:
    """One party of a benchmark."""

    def __init__(self, task: Task, party: MpcParty, dealer: Channel) -> None:
        self.task, self.party = task, party
        self.is_client = party.rank == CLIENT
        self.meter = _Meter(party, dealer)
        self.said: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Build, then identify every probe; return what it took, and on the client's side who was found."""
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

    def build(self) -> None:
        """Build the index, or encode the list."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Do the offline work of a query."""
        raise NotImplementedError

    def identify(self, probe: RingArray) -> int | None:
        """Return the nearest template's number, on the client's side, if it is near enough."""
        raise NotImplementedError


class _Private(_Side):
    """A party of a private gallery."""

    def build(self) -> None:
        """Index some templates at a time, the last one alone."""
        task = self.task
        folder = task.folder / f"rank {self.party.rank}"
        self.index = IndexFile(folder, _LINEAGE, _MASK_SEEDS[self.party.rank], task.dimension)
        self.index.clear(_LINEAGE)
        self.party.correlations.tell_mask(self.index.mask)  # type: ignore[attr-defined]
        spent: list[dict[str, float]] = []
        share_seconds = 0.0
        for first, templates in task.chunks():
            start = time.perf_counter()
            shares = _KEY.shares_of(_SCOPE, [_entry(first + i) for i in range(len(templates))], task.dimension)
            share_seconds += time.perf_counter() - start
            if not self.is_client:
                shares = templates.view(np.uint64) - shares
            is_last = first + len(templates) == task.size
            for part in (slice(None, -1), slice(-1, None)) if is_last else (slice(None),):
                if len(shares[part]):
                    rows = np.arange(first, first + len(templates))[part] + 1
                    with self.meter as measured:
                        extend_index(self.party, self.index, shares[part], rows.tolist())
                    spent.append(measured)
        self.said["build"] = {key: sum(one[key] for one in spent) for key in spent[0]}
        self.said["one_more"] = spent[-1]
        self.said["share_seconds"] = share_seconds
        self.said["index_bytes"] = sum(
            path.stat().st_size for path in (task.folder / f"rank {self.party.rank}").iterdir()
        )
        rows = np.arange(1, task.size + 1)
        self.layout = Layout((), np.ones(task.size, dtype=np.int64), rows)

    def prepare(self) -> None:
        """Make the correlations."""
        requests = find_requests(self.layout, self.index)
        self.party.correlations.prepare([*requests, *selection_requests(self.task.size, 1)])

    def identify(self, probe: RingArray) -> int | None:
        """Compare, select, open."""
        found = private_distances(self.party, self.index, self.layout, probe)
        return nearest(self.party, found, self.task.threshold, 1, Reveal.CLIENT)[0]


class _List(_Side):
    """A party of a server's list."""

    def build(self) -> None:
        """Encode the list on the server; send sealed names to the client."""
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
        """Compare, select, open; look the name up, and return the number in it."""
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


def measure(task: Task, party: MpcParty, dealer: Channel) -> dict[str, Any]:
    """Be a party: build, then identify; return what it took, and on the client's side how often it was right."""
    return (_Private if task.kind is Kind.PRIVATE else _List)(task, party, dealer).run()


def _be_party(task: Task, rank: int, peer: Channel, dealer: Channel) -> dict[str, Any]:
    source = DealerClient(dealer) if rank == CLIENT else DealerServer(dealer)
    with MpcParty(rank, peer, source) as party:
        said = measure(task, party, dealer)
    if isinstance(source, DealerClient):
        source.end()
    return said


def main(role: str, kind: str, size: str, runs: str, threshold: str, folder: str) -> int:
    """Be one rank of the benchmark."""
    from parties.mpi import join
    from parties.roles import Role
    from parties.tuning import tune_process

    tune_process()
    roles = (Role.CLIENT, Role.SERVER, Role.DEALER)
    world = join(Role(role), _TIMEOUT_SECONDS, required=roles)
    try:
        channels = [world.channel(other) for other in roles if other != role]
        if role == Role.DEALER:
            Dealer(*channels).serve()
            said: dict[str, Any] = {}
        else:
            task = Task(Kind(kind), int(size), int(runs), float(threshold), Path(folder))
            said = _be_party(task, CLIENT if role == Role.CLIENT else SERVER, *channels)
        for channel in channels:
            channel.close()
        said["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({role: said}) + "\n")
    except Exception as error:  # whatever it is, the other ranks must not wait for this one
        what = "" if isinstance(error, HybridFaceError) else f"internal error: {type(error).__name__}: "
        sys.stderr.write(f"{role}: {what}{error}\n")
        sys.stderr.flush()
        world.abort(2)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
