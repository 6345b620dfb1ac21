"""A server's list from end to end in this process: who is found, by plaintext's ranking, and what each side learns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import on_shares, record

from hybridface.models import load_model
from parties.gallery.errors import QueryRefusedError
from parties.gallery.limits import QueryLimits, Rate
from parties.gallery.list_client import ListClientSession
from parties.gallery.list_server import MAX_PREPARED_QUERIES, ListServerSession
from parties.gallery.queries import list_distances, nearest_in_list
from parties.gallery.records import Kind
from parties.gallery.store import GalleryStore
from parties.local import PartyThread, local_channels
from parties.terms import Terms
from protocols.correlations import Dealer
from protocols.errors import ParameterError, PeerLostError
from protocols.identification.server_list import LIST_FRACTION_BITS
from protocols.matching import Reveal
from protocols.ring import encode

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
    """The plaintext's distance of an image to every identity of `filled`."""
    every = np.linalg.norm(embeddings(IMAGES[: len(OWNERS)]) - embeddings(image[None]), axis=1)
    return np.array([every[np.array(OWNERS) == i].min() for i in range(len(NAMES))])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("list") / "list.db"
    with GalleryStore(path, MODEL.graph.digest(), 8, Kind.LIST) as store:
        shares = encode(embeddings(IMAGES[: len(OWNERS)]))
        store.enroll_many((NAMES[i], share) for i, share in zip(OWNERS, shares, strict=True))
    return path


@contextmanager
def session(
    path: Path, threshold: float = 1e3, reveal: Reveal = Reveal.CLIENT, limit: Rate | None = None
) -> Iterator[tuple[ListClientSession, list[ListServerSession]]]:
    """Open a session; the list holds the server's side once it has begun."""
    terms = Terms(MODEL.graph, threshold, reveal)
    to_server, to_client = local_channels("client", "server")
    client_dealer, dealer_client = local_channels("client", "dealer")
    server_dealer, dealer_server = local_channels("server", "dealer")
    sides: list[ListServerSession] = []

    def serve() -> None:
        with (
            GalleryStore(path, MODEL.graph.digest(), 8, Kind.LIST) as store,
            QueryLimits(path, None, limit) as limits,
        ):
            side = ListServerSession(
                to_client, server_dealer, terms, MODEL.weights, store=store, limits=limits, client_name="tests"
            )
            sides.append(side)
            side.serve()

    threads = [
        PartyThread("server", serve, (to_client, server_dealer)),
        PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
    ]
    for thread in threads:
        thread.start()
    with ListClientSession(to_server, client_dealer, terms) as client:
        yield client, sides
    for thread in threads:
        thread.join()


def test_identification_is_the_plaintext_ranking(filled: Path) -> None:
    with session(filled) as (client, sides):
        client.update_index()
        assert client.identity_count == len(NAMES)
        for image in IMAGES[len(OWNERS) :]:
            order = np.argsort(distances_to(image))
            assert client.identify(image[None], top=3).identities == tuple(NAMES[i] for i in order[:3])
        assert sides[0].last_identities == (None,) * 3, "the outcome is the client's"
    assert sorted(sides[0]._identities) == sorted(NAMES)
    assert sides[0]._sizes.tolist() == [2, 2, 2, 2, 1]


def test_unknown_and_prepared(filled: Path) -> None:
    distances = np.stack([distances_to(image) for image in IMAGES[len(OWNERS) :]])
    threshold = float(np.sort(distances.min(axis=1))[[4, 5]].mean())
    with session(filled, threshold) as (client, _):
        for row, image in zip(distances, IMAGES[len(OWNERS) :], strict=True):
            expected = NAMES[row.argmin()] if row.min() < threshold else None
            assert client.identify(image[None]).identity == expected
        client.prepare_query(2)
        found = client.identify(IMAGES[0][None], top=2)
        assert found.was_prepared
        assert found.identity == "Ann", "enrolled, so at a distance of zero but for rounding"
        assert found.cost.offline.bytes_up > 0
        assert not client.identify(IMAGES[1][None]).was_prepared


def test_a_distance_that_rounding_has_made_negative_is_near() -> None:
    found = np.array([5, -3, 7], dtype=np.int64) << (LIST_FRACTION_BITS - 26)
    sizes = np.array([2, 1])

    def side(party: Any, distances: Any) -> Any:
        fixed = SimpleNamespace(distances=lambda _party, _probe: distances)
        shares = list_distances(party, fixed, sizes, np.zeros(8, dtype=np.uint64))  # type: ignore[arg-type]
        return nearest_in_list(party, shares, 1e-3, 2, Reveal.BOTH), nearest_in_list(
            party, shares, 1e-4, 1, Reveal.BOTH
        )

    assert on_shares(side, found.view(np.uint64))[0] == ((0, 1), (0,))


def test_the_server_sees_no_difference_if_nobody_is_found(filled: Path) -> None:
    sizes = []
    for threshold in (1e3, 1e-6):
        with session(filled, threshold) as (client, _):
            client.prepare_query()
            sent = record(client._channel)
            assert (client.identify(IMAGES[12][None]).identity is None) is (threshold < 1)
            sizes.append([len(frame) for frame in sent])
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("reveal", [Reveal.SERVER, Reveal.BOTH])
def test_who_learns(filled: Path, reveal: Reveal) -> None:
    nearest = NAMES[distances_to(IMAGES[12]).argmin()]
    with session(filled, reveal=reveal) as (client, sides):
        found = client.identify(IMAGES[12][None])
        assert sides[0].last_identities == (nearest,)
        assert found.identity == (nearest if reveal is Reveal.BOTH else None)


def test_what_is_refused(filled: Path, tmp_path: Path) -> None:
    image = IMAGES[0][None]
    with session(filled, limit=Rate(2, 1)) as (client, _):
        with pytest.raises(QueryRefusedError, match="at most 5 identities, got 6"):
            client.identify(image, top=6)
        for top in (0, 65):
            with pytest.raises(ParameterError, match="1 to 64"):
                client.identify(image, top=top)
        for _ in range(2):
            assert client.identify(image).identity == "Ann"
        with pytest.raises(QueryRefusedError, match="next is allowed in") as caught:
            client.identify(image)
        assert 3000 < (caught.value.retry_after_seconds or 0) <= 3600
        for _ in range(MAX_PREPARED_QUERIES - 1):  # one is left of the identification that was refused
            client.prepare_query()
        with pytest.raises(QueryRefusedError, match="at most 4 prepared"):
            client.prepare_query()
    with session(tmp_path / "empty.db") as (client, _):
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            client.identify(image)
    with pytest.raises(PeerLostError, match="expected a preparation of an identification of 1 before it"):
        with session(filled) as (client, _):
            client.update_index()
            client._ask({"operation": "list-identify", "top": 1})
