"""A server's list of the tiny network for tests, its distances in the clear, and a session about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridface.models.model import load_model
from parties.gallery.index.search import PROBE
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions.list_client import ListClientSession
from parties.gallery.sessions.list_server import ListServerSession
from parties.gallery.sessions.server import GalleryQueries
from parties.gallery.store.limits import QueryLimits, Rate
from parties.gallery.store.store import GalleryStore
from parties.local import PartyThread
from parties.session.client_endpoint import ClientEndpoint
from parties.session.commands import OnCommand
from parties.session.correlations import Correlations
from parties.session.server_endpoint import ServerEndpoint
from parties.session.terms import Terms
from parties.transport.queues import local_channels
from protocols.arithmetic.fixed_point import encode
from protocols.correlations import Dealer
from protocols.matching.reveal import Reveal

MODEL = load_model("tiny-test")
RANDOM = np.random.default_rng(11)
IMAGES = RANDOM.uniform(-1, 1, (20, 3, 16, 16))
NAMES = ["Ann", "two words", "名前", "x" * 300, "Ann "]
"""Of the first ten images: two photos each of the first four, one of the others."""

OWNERS = [0, 1, 2, 3, 0, 1, 2, 3, 4]


def embeddings(images: Any) -> Any:
    assert MODEL.module is not None
    with torch.inference_mode():
        return MODEL.module(torch.from_numpy(images)).numpy()


def distances_to(image: Any) -> Any:
    """The plaintext's distance of an image to every identity of `fill`."""
    every = np.linalg.norm(embeddings(IMAGES[: len(OWNERS)]) - embeddings(image[None]), axis=1)
    return np.array([every[np.array(OWNERS) == i].min() for i in range(len(NAMES))])


def fill(path: Path) -> Path:
    """Make a list of the first images."""
    with GalleryStore(path, MODEL.graph.digest(), 8, GalleryKind.LIST) as store:
        shares = encode(embeddings(IMAGES[: len(OWNERS)]))
        store.enroll_many((NAMES[i], share) for i, share in zip(OWNERS, shares, strict=True))
    return path


@contextmanager
def session(
    path: Path,
    threshold: float = 1e3,
    reveal: Reveal = Reveal.CLIENT,
    limit: Rate | None = None,
    verify_limit: Rate | None = None,
    may: frozenset[Right] | None = None,
    on_command: OnCommand | None = None,
) -> Iterator[tuple[ListClientSession, list[ListServerSession]]]:
    """Open a session; the list holds the server's side once it has begun."""
    terms = Terms(MODEL.graph, threshold, reveal, correlations=Correlations.DEALER)
    to_server, to_client = local_channels("client", "server")
    client_dealer, dealer_client = local_channels("client", "dealer")
    server_dealer, dealer_server = local_channels("server", "dealer")
    sides: list[ListServerSession] = []

    def serve() -> None:
        with (
            GalleryStore(path, MODEL.graph.digest(), 8, GalleryKind.LIST) as store,
            QueryLimits(path, verify_limit, limit) as limits,
        ):
            endpoint = ServerEndpoint(to_client, server_dealer, terms, MODEL.weights or {})
            side = ListServerSession(endpoint, GalleryQueries(store, limits, "tests", may))
            sides.append(side)
            side.serve(on_command=on_command)

    threads = [
        PartyThread("server", serve, (to_client, server_dealer)),
        PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
    ]
    for thread in threads:
        thread.start()
    with ListClientSession(ClientEndpoint(to_server, client_dealer, terms, refilled=PROBE)) as client:
        yield client, sides
    for thread in threads:
        thread.join()


def prepare_query(client: ListClientSession, top: int = 1) -> None:
    """Do, offline, all work of one identification that needs no photo."""
    layer = client._read_first()
    with client.endpoint.request():
        client._prepare_probe()
        client._prepare_query(layer, min(top, client.identity_count))
