"""A server's list from end to end in this process: who is found, by plaintext's ranking, and what each side learns."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import QueryRefusedError
from parties.gallery.index.search import list_distances, nearest_in_list
from parties.gallery.sessions.list_server import MAX_PREPARED_QUERIES
from parties.gallery.store.limits import Rate
from protocols.errors import ParameterError, PeerLostError
from protocols.matching.reveal import Reveal
from protocols.matching.server_list import LIST_FRACTION_BITS
from support.frames import record
from support.list_sessions import IMAGES, NAMES, OWNERS, distances_to, fill, prepare_query, session
from support.shares import on_shares


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("list") / "list.db")


@pytest.mark.slow
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


@pytest.mark.slow
def test_unknown_and_prepared(filled: Path) -> None:
    distances = np.stack([distances_to(image) for image in IMAGES[len(OWNERS) :]])
    threshold = float(np.sort(distances.min(axis=1))[[4, 5]].mean())
    with session(filled, threshold) as (client, _):
        for row, image in zip(distances, IMAGES[len(OWNERS) :], strict=True):
            expected = NAMES[row.argmin()] if row.min() < threshold else None
            assert client.identify(image[None]).identity == expected
        prepare_query(client, 2)
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
            prepare_query(client)
            sent = record(client.endpoint.channel)
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


def test_as_many_as_there_are(filled: Path) -> None:
    with session(filled) as (client, _):
        prepare_query(client, 6)
        found = client.identify(IMAGES[0][None], top=64)
        assert sorted(name or "" for name in found.identities) == sorted(NAMES)
        assert found.was_prepared is True, "what was prepared for six does"
        with pytest.raises(QueryRefusedError, match="at most 5 identities, got 6"):
            client._ask({"operation": "list-prepare", "top": 6})


def test_what_is_refused(filled: Path, tmp_path: Path) -> None:
    image = IMAGES[0][None]
    with session(filled, limit=Rate(2, 1)) as (client, _):
        for top in (0, 65):
            with pytest.raises(ParameterError, match="1 to 64"):
                client.identify(image, top=top)
        for _ in range(2):
            assert client.identify(image).identity == "Ann"
        with pytest.raises(QueryRefusedError, match="next is allowed in") as caught:
            client.identify(image)
        assert 3000 < (caught.value.retry_after_seconds or 0) <= 3600
        for _ in range(MAX_PREPARED_QUERIES - 1):  # one is left of the identification that was refused
            prepare_query(client)
        with pytest.raises(QueryRefusedError, match="at most 4 prepared"):
            prepare_query(client)
    with session(tmp_path / "empty.db") as (client, _):
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            client.identify(image)
    with pytest.raises(PeerLostError, match="expected a prepared identification of 1 identities, got none"):
        with session(filled) as (client, _):
            client.update_index()
            client._ask({"operation": "list-identify", "top": 1})
