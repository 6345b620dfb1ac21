"""A server's list: verification of somebody whom both know, a list that changes, limits, parties that deviate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import QueryRefusedError, StoreError
from parties.gallery.index.search import PROBE
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions import client as gallery_client
from parties.gallery.sessions import list_client, list_server
from parties.gallery.sessions.list_content import list_share, list_templates, read_list
from parties.gallery.sessions.list_server import ListServerSession
from parties.gallery.store.limits import GUESSES, OPERATOR, QueryLimits, Rate
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import encode
from protocols.errors import UNTOLD, HiddenError, ParameterError, PeerLostError, ProtocolError
from protocols.matching.reveal import Reveal
from support.frames import record
from support.list_sessions import IMAGES, MODEL, NAMES, OWNERS, distances_to, embeddings, fill, prepare_query, session
from support.shares import pool_is_empty
from support.statistics import assert_uniform_bytes


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("list") / "list.db")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A list that may be changed."""
    return fill(tmp_path / "list.db")


def opened(path: Path) -> GalleryStore:
    return GalleryStore(path, MODEL.graph.digest(), 8, GalleryKind.LIST)


@pytest.mark.slow
def test_verification_is_the_plaintext_decision(filled: Path) -> None:
    probes = IMAGES[len(OWNERS) :]
    distances = np.stack([distances_to(image) for image in probes])
    threshold = float(np.sort(distances, axis=None)[[27, 28]].mean())  # between two, and not at one
    with session(filled, threshold) as (client, sides):
        for row, image in zip(distances, probes, strict=True):
            for name, distance in zip(NAMES, row, strict=True):
                assert client.verify_identity(name, image[None]).match is bool(distance < threshold)
                assert sides[0].last_decisions == (None,), "the decision is the client's"
        assert client.identity_count == 0, "the list itself was not needed"
        assert pool_is_empty(client.endpoint.party())


@pytest.mark.parametrize("reveal", [Reveal.SERVER, Reveal.BOTH])
def test_who_learns_a_decision(filled: Path, reveal: Reveal) -> None:
    with session(filled, 1e-3, reveal) as (client, sides):
        for name, expected in (("Ann", True), ("two words", False)):
            match = client.verify_identity(name, IMAGES[0][None]).match
            assert match is (expected if reveal is Reveal.BOTH else None)
            assert sides[0].last_decisions == (expected,)
            assert sides[0].last_asked == name
        client.update_index()
        assert (sides[0].last_decisions, sides[0].last_asked) == ((), None)


@pytest.mark.slow
def test_what_the_client_sees_of_a_template_is_uniform(filled: Path) -> None:
    """In a verification the server opens its template less its share of the probe, masked."""
    with session(filled) as (client, sides):
        sent: list[bytes] = []
        for _ in range(151):
            client.verify_identity("Ann ", IMAGES[12][None])
            sent = sent or record(sides[0].endpoint.channel)
        frames = [frame for frame in sent if len(frame) == 24 + 8 * 8]
        words = np.stack([np.frombuffer(frame[-64:], dtype=np.uint64) for frame in frames])
    assert len(words) == 150, "one opening of eight numbers each"
    assert_uniform_bytes(words)
    template = encode(embeddings(IMAGES[8][None]))[0]
    assert not any(np.array_equal(row, template) for row in words)


def test_a_list_that_changes(own: Path) -> None:
    with session(own, 1e-3) as (client, sides), opened(own) as store:
        assert client.identify(IMAGES[0][None]).identity == "Ann"
        order = sides[0]._identities
        client.update_index()
        assert sides[0]._identities == order, "nothing has changed: nothing is sent"
        for top in (1, 2, 2):
            prepare_query(client, top)
        store.enroll("newcomer", encode(embeddings(IMAGES[15][None]))[0])
        store.remove("Ann")
        for ask in (lambda: client.identify(IMAGES[0][None]), lambda: prepare_query(client)):
            with pytest.raises(QueryRefusedError, match="it has changed: read it again"):
                ask()
        assert client.verify_identity("newcomer", IMAGES[15][None]).match is True, "a verification sees it at once"
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("Ann", IMAGES[0][None])
        client.update_index()
        assert pool_is_empty(client.endpoint.party()), "a refused verification has prepared nothing"
        assert client.identify(IMAGES[0][None]).identity is None
        assert client.identify(IMAGES[15][None]).identity == "newcomer"
        assert client.identity_count == len(NAMES)
        assert pool_is_empty(client.endpoint.party()), "what was prepared for the old list is gone"
        assert not sides[0]._prepared.total()
        store.remove_many(["newcomer", *NAMES])
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            client.update_index()


def test_limits_and_log(own: Path) -> None:
    with session(own, limit=Rate(3, 1), verify_limit=Rate(1, 1)) as (client, _):
        client.verify_identity("Ann", IMAGES[0][None])
        with pytest.raises(QueryRefusedError, match="next is allowed in") as caught:
            client.verify_identity("Ann", IMAGES[0][None])
        assert 3000 < (caught.value.retry_after_seconds or 0) <= 3600
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("nobody", IMAGES[0][None])
        client.identify(IMAGES[0][None], top=2)
        with pytest.raises(QueryRefusedError, match="next is allowed in"):
            client.identify(IMAGES[0][None], top=2)
        client.identify(IMAGES[0][None])
        with pytest.raises(QueryRefusedError, match="next is allowed in"):
            client.identify(IMAGES[0][None])
    with QueryLimits(own) as limits:
        lines = [(line.client, line.operation, line.allowed) for line in limits.queries()]
        assert lines == [
            ("tests", "verify", True),
            ("tests", "verify", False),
            ("tests", "verify", False),
            ("tests", "read", True),
            ("tests", "identify", True),
            ("tests", "identify", False),
            ("tests", "identify", True),
            ("tests", "identify", False),
        ]
        assert [line.allowed for line in limits.queries("Ann")] == [True, False]
        assert OPERATOR not in {line.client for line in limits.queries()}


def test_who_guesses_names_is_refused_everything(own: Path) -> None:
    with session(own) as (client, _):
        for number in range(int(GUESSES.capacity)):
            with pytest.raises(QueryRefusedError, match="found none of that name"):
                client.verify_identity(f"guess {number}", IMAGES[0][None])
        for name in ("one more", "Ann"):
            with pytest.raises(QueryRefusedError, match="next is allowed in"):
                client.verify_identity(name, IMAGES[0][None])
        assert client.identify(IMAGES[0][None]).identity == "Ann"


def test_ask_for_more_names_than_a_bucket_holds(own: Path) -> None:
    with session(own, limit=Rate(2, 1)) as (client, _):
        assert len(client.identify(IMAGES[0][None], top=4).identities) == 4
        with pytest.raises(QueryRefusedError, match="next is allowed in") as caught:
            client.identify(IMAGES[0][None])
        assert 3000 < (caught.value.retry_after_seconds or 0) <= 3600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sizes", [], "expected sizes to be a list of 1 to"),
        ("sizes", [[1, -1]], "expected sizes to be a whole number of 1 to"),
        ("sizes", [[0, 5]], "expected sizes to be a whole number of 1 to"),
        ("sizes", [[1, 1 << 25]], "expected sizes to be a whole number of 1 to 16777216"),
        ("sizes", [[1 << 24, 1], [1, 1]], "at most 16777216 photos in a list"),
        ("sizes", [["x", 1]], "expected sizes to be a whole number of 1 to"),
        ("sizes", "many", "expected sizes to be a list"),
        ("sizes", [[1, 20]], "expected records to be a whole number of 20 to"),
        ("sizes", [[2, 4], [1, 2]], "list/download"),
        ("records", 1 << 40, "expected records to be a whole number of 5 to"),
        ("records", 4, "expected records to be a whole number of 5 to"),
        ("records", None, "expected records to be"),
        ("records", 6, "list/names from server: expected"),
        ("sizes", [[2, 4]], "list/download"),
        ("photos", 0, "expected photos to be a whole number"),
        ("photos", 1 << 20, "expected photos to be a whole number"),
        ("photos", "2", "expected photos to be a whole number"),
        ("photos", 3, "expected"),
    ],
)
def test_a_server_that_deviates(
    filled: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, message: str
) -> None:
    """It says other sizes than it has: that ends the session, on one side or the other."""
    accept = ListServerSession._accept

    def lie(self: ListServerSession, **fields: Any) -> None:
        accept(self, **(fields | ({field: value} if field in fields else {})))

    monkeypatch.setattr(ListServerSession, "_accept", lie)
    with pytest.raises((ProtocolError, PeerLostError), match=message):
        with session(filled) as (client, _):
            if field == "photos":
                client.verify_identity("Ann", IMAGES[0][None])
            else:
                client.identify(IMAGES[0][None])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"operation": "list-prepare", "top": 65}, "expected "),
        ({"operation": "list-identify", "top": 0}, "expected "),
        ({"operation": "list-verify", "identity": 3}, "expected "),
        ({"operation": "gallery-rotate", "check": "0" * 32}, "expected "),
    ],
    ids=lambda value: value["operation"] if isinstance(value, dict) else "",
)
def test_a_client_that_deviates(filled: Path, command: dict[str, Any], message: str) -> None:
    with pytest.raises(PeerLostError, match=message):
        with session(filled) as (client, _):
            client._ask(command)
            client.endpoint.channel.receive_document("cost")


def test_a_verification_without_its_preparation_is_refused(filled: Path) -> None:
    with pytest.raises(PeerLostError, match="expected operation to be one of prepare"):
        with session(filled) as (client, _):
            assert client._ask({"operation": "list-verify", "identity": "Ann"}).fields["photos"] == 2
            client.endpoint.channel.send_document("command", {"operation": "end"})
            client.endpoint.channel.receive_document("cost")


def test_a_refused_verification_costs_no_preparation(own: Path) -> None:
    with session(own) as (client, _):
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("nobody", IMAGES[0][None])
        assert client.endpoint.pool.ready(PROBE) == 0
        result = client.verify_identity("Ann", IMAGES[0][None])
        assert (result.match, result.was_prepared) == (True, False)
        client.endpoint.prepare(PROBE)
        assert client.verify_identity("Ann", IMAGES[0][None]).was_prepared


@pytest.mark.parametrize("rows", [1, 3])
def test_a_client_that_claims_other_sizes(filled: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    requests, decide = list_client.decide_requests, gallery_client.decide
    monkeypatch.setattr(list_client, "decide_requests", lambda _, dimension: requests(rows, dimension))
    monkeypatch.setattr(
        gallery_client,
        "decide",
        lambda party, probe, templates, *others: decide(party, probe, np.resize(templates, (rows, 8)), *others),
    )
    with pytest.raises((ProtocolError, PeerLostError), match="expected"):
        with session(filled) as (client, _):
            client.verify_identity("Ann", IMAGES[0][None])


def test_a_name_that_was_changed_on_the_way_ends_the_session(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = list_server.seal_names

    def changed(names: Any) -> Any:
        sealed, keys = seal(names)
        return sealed ^ 1, keys

    monkeypatch.setattr(list_server, "seal_names", changed)
    frames: list[bytes] = []
    with pytest.raises(HiddenError, match="expected the found person's sealed name"):
        with session(filled) as (client, _):
            frames = record(client.endpoint.channel)
            client.identify(IMAGES[0][None])
    assert frames[-1].endswith(UNTOLD.encode()), "the server hears that there was an error"
    assert not [frame for frame in frames if b"sealed" in frame]


def test_a_private_gallery_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "private.db"
    GalleryStore(path, MODEL.graph.digest(), 8, GalleryKind.PRIVATE).close()
    with pytest.raises((PeerLostError, ParameterError, StoreError)), session(path):
        pass


def test_what_a_list_holds(own: Path) -> None:
    with opened(own) as store:
        listed = read_list(store)
        known = encode(embeddings(IMAGES[: len(OWNERS)])).view(np.int64)
        start = 0
        for name, size in zip(listed.identities, listed.sizes, strict=True):
            rows = known[np.array(OWNERS) == NAMES.index(name)]
            assert np.array_equal(listed.templates[start : start + size], rows)
            start += size
        assert len({read_list(store).identities for _ in range(40)}) > 5, "the order is drawn anew"
        store.enroll("too large", np.full(8, 1 << 20, dtype=np.uint64))
        with pytest.raises(StoreError, match="numbers below 16"):
            read_list(store)
    for value in (16 << 16, -(16 << 16), -(1 << 63)):
        with pytest.raises(ParameterError, match="numbers below 16"):
            list_share(np.array([0, value]))
        with pytest.raises(StoreError, match="numbers below 16"):
            list_templates(np.array([[0, value]]).view(np.uint64))
    assert list_share(np.array([-5, (16 << 16) - 1])).view(np.int64).tolist() == [-5, (16 << 16) - 1]
