"""A private gallery of the tiny network for tests: sessions of all parties in this process, with any shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridface.models.model import load_model
from parties.gallery.index.search import PROBE
from parties.gallery.key import GalleryKey
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.gallery.sessions.private_server import PrivateServerSession
from parties.gallery.sessions.server import GalleryQueries
from parties.gallery.shards.rank import ShardRank
from parties.gallery.store.limits import QueryLimits, Rate
from parties.gallery.store.store import GalleryStore
from parties.local import PartyThread
from parties.session.client_endpoint import ClientEndpoint
from parties.session.commands import OnCommand
from parties.session.correlations import Correlations
from parties.session.server_endpoint import ServerEndpoint
from parties.session.terms import Terms
from parties.transport.queues import local_channels
from protocols.correlations import Dealer
from protocols.matching.reveal import Reveal

KEY = GalleryKey(bytes(range(32)))
NEW_KEY = GalleryKey(bytes(range(1, 33)))
MODEL = load_model("tiny-test")
IMAGES = np.random.default_rng(5).uniform(-1, 1, (8, 3, 16, 16))
"""Of people p0, p1, ...: see `fill`."""


def embeddings(images: Any) -> Any:
    assert MODEL.module is not None
    with torch.inference_mode():
        return MODEL.module(torch.from_numpy(images)).numpy()


def shard_threads(folder: Path, count: int, apart: bool = False) -> tuple[list[Any], list[Any], list[PartyThread]]:
    """Return the client's and the server's channels to so many further shards, and the threads of their ranks."""
    parents: tuple[list[Any], list[Any]] = ([], [])
    threads = []
    for number in range(1, count + 1):
        to_server, to_client = local_channels("client shard", "server shard")
        client_dealer, dealer_client = local_channels("client shard", "dealer")
        server_dealer, dealer_server = local_channels("server shard", "dealer")
        for rank, (peer, dealer) in enumerate(((to_server, client_dealer), (to_client, server_dealer))):
            side = ("client", "server")[rank]
            down, up = local_channels(side, f"{side} shard")
            parents[rank].append(down)
            index = folder / (f"{side} shard {number}" if apart else side)
            work = ShardRank, rank, up, peer, dealer, index, Correlations.DEALER
            threads.append(PartyThread(f"{side} shard", partial(_serve, *work), (up, peer, dealer)))
        threads.append(
            PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server))
        )
    return *parents, threads


def _serve(kind: Any, *arguments: Any) -> None:
    kind(*arguments).serve()


@contextmanager
def session(
    folder: Path,
    key: GalleryKey = KEY,
    limits: tuple[Rate | None, Rate | None] = (None, None),
    threshold: float = 0.6,
    shards: int = 1,
    sides: list[PrivateServerSession] | None = None,
    timeout: float = 60.0,
    apart: bool = False,
    reveal: Reveal = Reveal.CLIENT,
    may: frozenset[Right] | None = None,
    on_command: OnCommand | None = None,
) -> Iterator[PrivateClientSession]:
    """Open a session about the gallery in a folder.

    Args:
        shards: how many ranks of each side search.
        sides: gets the server's side, once it has begun.
        timeout: that client and server wait for each other.
        apart: whether each further shard's ranks have folders of their own, as on other machines.
        reveal: who learns what is decided.
        may: what the client may do; None for everything.
        on_command: called by the server after each command.
    """
    terms = Terms(MODEL.graph, threshold, reveal, correlations=Correlations.DEALER)
    to_server, to_client = local_channels("client", "server", timeout)
    client_dealer, dealer_client = local_channels("client", "dealer")
    server_dealer, dealer_server = local_channels("server", "dealer")
    of_client, of_server, threads = shard_threads(folder, shards - 1, apart)

    def serve() -> None:
        path = folder / "gallery.db"
        with (
            GalleryStore(path, MODEL.graph.digest(), 8, GalleryKind.PRIVATE) as store,
            QueryLimits(path, *limits) as limited,
        ):
            endpoint = ServerEndpoint(to_client, server_dealer, terms, MODEL.weights or {})
            queries = GalleryQueries(store, limited, "tests", may)
            side = PrivateServerSession(endpoint, queries, folder / "server", of_server)
            if sides is not None:
                sides.append(side)
            side.serve(on_command=on_command)

    threads += [
        PartyThread("server", serve, (to_client, server_dealer, *of_server)),
        PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
    ]
    for thread in threads:
        thread.start()
    try:
        endpoint = ClientEndpoint(to_server, client_dealer, terms, refilled=PROBE)
        with PrivateClientSession(endpoint, key, folder / "client", of_client) as client:
            yield client
    except BaseException:
        for channel in (to_server, client_dealer, *of_client):
            channel.close()
        for thread in threads:  # whatever they are at: nothing of one session happens in the next
            thread.join(60)
        raise
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
        assert thread.error is None


def opened_store(folder: Path) -> GalleryStore:
    return GalleryStore(folder / "gallery.db", MODEL.graph.digest(), 8, GalleryKind.PRIVATE)


def fill(client: PrivateClientSession, count: int = 3) -> None:
    """Enrol the first images."""
    for number in range(count):
        client.enroll_identity(f"p{number}", IMAGES[number][None])


def found(client: PrivateClientSession, number: int) -> str | None:
    """Return who is found by an image."""
    return client.identify(IMAGES[number][None]).identity


def index_files(folder: Path) -> list[str]:
    """Return the names of a side's files, but for the locks."""
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock")
