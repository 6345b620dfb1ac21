"""A private gallery from end to end in this process: the verbs, limits, refusals, a stolen file, a new key."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import QueryRefusedError, RefusalError, StoreError
from parties.gallery.key import GalleryKey
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions import private_client
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.gallery.sessions.private_server import PrivateServerSession
from parties.gallery.sessions.server import GalleryQueries
from parties.gallery.store.limits import GUESSES, QueryLimits, Rate
from parties.gallery.store.store import GalleryStore
from parties.local import PartyThread
from parties.session.client_endpoint import ClientEndpoint
from parties.session.correlations import Correlations
from parties.session.server_endpoint import ServerEndpoint
from parties.session.terms import Terms
from parties.transport.queues import local_channels
from protocols.correlations import Dealer
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.matching.reveal import Reveal
from support.gallery_sessions import KEY, MODEL, embeddings, session
from support.statistics import assert_uniform_bytes


@pytest.fixture(scope="module")
def images() -> Any:
    """Random inputs, in pairs of near ones."""
    random = np.random.default_rng(5)
    base = random.uniform(-1, 1, (6, 3, 16, 16))
    return np.stack([base, base + random.normal(0, 0.005, base.shape)], axis=1)


@pytest.mark.slow
def test_the_verbs(tmp_path: Path, images: Any) -> None:
    known, probes = embeddings(images[:, 0]), embeddings(images[:, 1])
    distances = np.linalg.norm(known[:5, None] - probes[None], axis=-1)
    threshold = float(np.sqrt(np.diag(distances).max() * np.sort(distances.ravel())[5]))
    names = ["Ann", "two words", "名前", "x" * 300, "ann"]
    with session(tmp_path, threshold=threshold) as client:
        for name, image in zip(names, images[:5, 0], strict=True):
            client.enroll_identity(name, image[None])
        assert client.list_identities() == dict.fromkeys(names, 1)
        for i, name in enumerate(names):
            assert client.verify_identity(name, images[i, 1][None]).match is True
            assert client.verify_identity(name, images[(i + 1) % 5, 1][None]).match is bool(
                distances[i, (i + 1) % 5] < threshold
            )
    with session(tmp_path, threshold=threshold) as client:  # nothing but the key was kept
        for i, name in enumerate(names):
            assert client.identify(images[i, 1][None]).identity == name
        client.enroll_identity("Ann", images[5, 0][None])  # a second photo of hers
        assert client.list_identities()["Ann"] == 2
        assert client.identify(images[5, 1][None]).identity == "Ann"
        assert client.verify_identity("Ann", images[5, 1][None]).match is True
        order = np.argsort(np.minimum(distances, np.inf)[:, 2])
        expected = [names[i] if distances[i, 2] < threshold else None for i in order]
        found = client.identify(images[2, 1][None], top=5).identities
        assert found[0] == names[2]
        assert set(found) >= {name for name in expected if name not in (None, "Ann")}
    with session(tmp_path, threshold=threshold) as client:
        assert client.remove_identities(["two words", "nobody"]) == 1
        assert client.identify(images[1, 1][None]).identity != "two words"
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("two words", images[1, 1][None])
        assert client.verify_identity("Ann", images[0, 1][None]).match is True, "a refusal ends nothing"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_identification_is_the_plaintext_ranking(tmp_path: Path, shards: int) -> None:
    random = np.random.default_rng(8)
    images = random.uniform(-1, 1, (24, 3, 16, 16))
    known = embeddings(images[:14])
    with session(tmp_path, threshold=1e3, shards=shards) as client:
        for i, image in enumerate(images[:14]):
            client.enroll_identity(f"p{i // 2}", image[None])
        for image in images[14:]:
            distances = np.linalg.norm(known - embeddings(image[None]), axis=1).reshape(7, 2).min(axis=1)
            expected = tuple(f"p{i}" for i in np.argsort(distances)[:3])
            assert client.identify(image[None], top=3).identities == expected


@pytest.mark.slow
@pytest.mark.parametrize("reveal", Reveal)
def test_who_learns(tmp_path: Path, images: Any, reveal: Reveal) -> None:
    sides: list[PrivateServerSession] = []
    of_client, of_server = (reveal in (learns, Reveal.BOTH) for learns in (Reveal.CLIENT, Reveal.SERVER))
    with session(tmp_path, reveal=reveal, sides=sides) as client:
        for i, name in enumerate(("Ann", "Bob")):
            client.enroll_identity(name, images[i, 0][None])
        assert client.identify(images[1, 1][None]).identity == ("Bob" if of_client else None)
        assert sides[0].last_identities == ("Bob" if of_server else None,)
        assert client.verify_identity("Ann", images[0, 1][None]).match is (True if of_client else None)
        assert sides[0].last_decisions == (True if of_server else None,)


@pytest.mark.slow
def test_more_shards_than_people_and_another_number_of_them(tmp_path: Path, images: Any) -> None:
    for shards in (3, 1, 2):
        with session(tmp_path, shards=shards) as client:
            if shards == 3:
                for i, name in enumerate(("Ann", "Bob")):
                    client.enroll_identity(name, images[i, 0][None])
            for i, name in enumerate(("Ann", "Bob")):
                found = client.identify(images[i, 1][None])
                assert found.identity == name
                traffic = found.cost.online
                assert traffic.bytes_up > 0
                assert traffic.bytes_down > 0
    with session(tmp_path, shards=2) as client:
        client.enroll_identity("Cyd", images[2, 0][None])
        client.remove_identities(["Ann"])
        assert client.identify(images[2, 1][None]).identity == "Cyd"
        assert client.identify(images[1, 1][None]).identity == "Bob"
        assert client.identify(images[0, 1][None]).identity != "Ann"


@pytest.mark.slow
def test_only_what_is_new_is_indexed(tmp_path: Path, images: Any) -> None:
    def opened(client: PrivateClientSession) -> int:
        """Bring the index up to date; return the bytes of opened templates."""
        return sum(stage.bytes_up for stage in client.update_index().stages if stage.stage == "index")

    with session(tmp_path, shards=2) as client:
        for i in range(6):
            client.enroll_identity(f"p{i}", images[i, 0][None])
        assert 6 * 8 * 8 < opened(client) < 2 * 6 * 8 * 8
    with session(tmp_path, shards=2) as client:
        assert opened(client) == 0
        client.enroll_identity("p6", images[0, 0][None])
        assert 8 * 8 < opened(client) < 2 * 8 * 8 + 100
        assert opened(client) == 0
        assert client.identify(images[5, 1][None]).identity == "p5"


def test_an_enrolment_that_cannot_be_logged_reserves_nothing(
    tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session(tmp_path) as client, monkeypatch.context() as patch:

        def busy(*_: Any) -> None:
            raise RefusalError("the store is busy")

        patch.setattr(PrivateServerSession, "_log", busy)
        with pytest.raises(QueryRefusedError, match="the store is busy"):
            client.enroll_identity("Ann", images[0, :1])
        with contextlib.closing(sqlite3.connect(tmp_path / "gallery.db")) as file:
            assert file.execute("SELECT count(*) FROM reservation").fetchone() == (0,)


def reservations(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "gallery.db")) as file:
        return int(file.execute("SELECT count(*) FROM reservation").fetchone()[0])


@pytest.mark.slow
def test_several_photos_at_once(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        client.enroll_identity("Bob", images[4, :1])
        done = client.enroll_identity("Ann", images[:3, 0])
        assert done.rows == (2, 3, 4)
        assert client.list_identities() == {"Bob": 1, "Ann": 3}
        for photo in range(3):
            assert client.verify_identity("Ann", images[photo, 1][None]).match is True
            assert client.identify(images[photo, 1][None]).identity == "Ann"
        assert client.identify(images[4, 1][None]).identity == "Bob"


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["extract", "_receive_share", "commit_many"])
def test_several_photos_are_all_enrolled_or_none(
    tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    owner = {"extract": ServerEndpoint, "_receive_share": PrivateServerSession, "commit_many": GalleryStore}[fails]
    real, calls = getattr(owner, fails), iter(range(9))

    def full(*arguments: Any) -> Any:
        if next(calls) == (0 if fails == "commit_many" else 1):
            raise StoreError("database or disk is full")
        return real(*arguments)

    with session(tmp_path) as client:
        client.enroll_identity("Ann", images[5, :1])
    with monkeypatch.context() as patch, pytest.raises((PeerLostError, ProtocolError)), session(tmp_path) as client:
        patch.setattr(owner, fails, full)
        client.enroll_identity("Ann", images[:3, 0])
    assert reservations(tmp_path) == 0
    with session(tmp_path) as client:
        assert client.list_identities() == {"Ann": 1}
        assert client.enroll_identity("Ann", images[:3, 0]).rows == (5, 6, 7), "no number is used twice"
        assert client.list_identities() == {"Ann": 4}


@pytest.mark.slow
def test_a_client_that_fails_in_the_middle_enrols_nobody(
    tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = iter(range(9)), PrivateClientSession._embed

    def killed(self: Any, value: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(self, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), session(tmp_path) as client:
        patch.setattr(PrivateClientSession, "_embed", killed)
        client.enroll_identity("Ann", images[:3, 0])
    with session(tmp_path) as client:
        assert client.list_identities() == {}
    assert reservations(tmp_path) == 0


def test_names_have_one_form_whoever_sends_them(tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(tmp_path) as client:
        client.enroll_identity("Zoe\u0308", images[0, :1])
        assert client.list_identities() == {"Zoë": 1}
        assert client.verify_identity("Zoe\u0308", images[0, 1][None]).match is True
        with pytest.raises(ParameterError, match="begins or ends with white space"):
            client.enroll_identity(" Zoë", images[0, :1])
        monkeypatch.setattr(private_client, "person_name", str)  # a client that deviates
        for name, said in (("Zoe\u0308", "in the normal form NFC"), ("Zo\u200bë", "ZERO WIDTH SPACE"), (" ", "alone")):
            with pytest.raises(QueryRefusedError, match=said):
                client.enroll_identity(name, images[0, :1])
        assert client.list_identities() == {"Zoë": 1}
        assert client.remove_identities(["Zoe\u0308"]) == 1


@pytest.mark.parametrize(
    ("rate", "ahead", "least"), [(Rate(1, 1e-6), 0.0, 3.5e9), (Rate(1, 1), 1e300, 1e12)], ids=["slowest rate", "clock"]
)
def test_a_refusal_for_very_long_ends_nothing_else(
    tmp_path: Path, images: Any, rate: Rate, ahead: float, least: float
) -> None:
    with session(tmp_path, limits=(rate, rate)) as client:
        client.enroll_identity("Ann", images[0, :1])
        client.verify_identity("Ann", images[0, :1])
        with contextlib.closing(sqlite3.connect(tmp_path / "gallery.db")) as file, file:
            file.execute("UPDATE state SET query_time = max(query_time, ?)", (ahead,))
            file.execute("UPDATE bucket SET full = full + ?", (2 * ahead,))
            file.execute("UPDATE bucket SET time = max(time, ?)", (ahead,))
        with pytest.raises(QueryRefusedError, match="next is allowed in") as caught:
            client.verify_identity("Ann", images[0, :1])
        assert least <= (caught.value.retry_after_seconds or 0) <= 1e12
        assert client.list_identities() == {"Ann": 1}, "the session goes on"


@pytest.mark.slow
def test_what_one_command_cannot_hold_is_refused_before_anything_is_sent(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        client.enroll_identity("Ann", images[0, :1])
        many = ["Ann", *(f"somebody else {number:06}" for number in range(50_000))]
        refusal = r"cannot remove 50001 identities at once: cannot send command: .* got 12\d{5}; .*; nobody was removed"
        with pytest.raises(ParameterError, match=refusal):
            client.remove_identities(many)
        with pytest.raises(ParameterError, match="cannot send command"):
            client.rename_identity("x" * (1 << 20), "Bob")
        assert client.list_identities() == {"Ann": 1}, "the session goes on"
        assert client.remove_identities(many[:40_000]) == 1


def test_another_number_of_shards_than_the_server_has(tmp_path: Path) -> None:
    to_server, to_client = local_channels("client", "server", 5.0)
    client_dealer, dealer_client = local_channels("client", "dealer")
    server_dealer, dealer_server = local_channels("server", "dealer")
    terms = Terms(MODEL.graph, 0.6, correlations=Correlations.DEALER)
    (of_server, _) = local_channels("server", "shard")

    def serve() -> None:
        with GalleryStore(tmp_path / "gallery.db", MODEL.graph.digest(), 8, GalleryKind.PRIVATE) as store:
            endpoint = ServerEndpoint(to_client, server_dealer, terms, MODEL.weights or {})
            PrivateServerSession(endpoint, GalleryQueries(store, None, "tests"), tmp_path, [of_server]).serve()

    threads = [
        PartyThread("server", serve, (to_client, server_dealer)),
        PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
    ]
    for thread in threads:
        thread.start()
    with pytest.raises(ProtocolError, match="expected 1 shards, as the client has, got 2"):
        PrivateClientSession(ClientEndpoint(to_server, client_dealer, terms), KEY, tmp_path)
    for channel in (to_server, client_dealer):
        channel.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.slow
def test_a_new_key(tmp_path: Path, images: Any) -> None:
    new = GalleryKey(bytes(32)[::-1].replace(b"\0", b"\7"))
    with session(tmp_path) as client:
        client.enroll_identity("Ann", images[0, 0][None])
        assert client.identify(images[0, 0][None]).identity == "Ann"
        assert client.rotate_key(new) == 2
        for side in ("server", "client"):
            kept = [path.name for path in tmp_path.glob(f"{side}/*") if path.suffix != ".lock"]
            assert not kept, "the old key's index, and who was enrolled"
        assert client.verify_identity("Ann", images[0, 0][None]).match is True
        client.enroll_identity("Bob", images[1, 0][None])
        client.update_index()
        assert client.identify(images[1, 0][None]).identity == "Bob", "in the session that has changed the key"
    with session(tmp_path, key=new) as client:
        assert client.verify_identity("Ann", images[0, 0][None]).match is True
        assert client.identify(images[0, 0][None]).identity == "Ann"
        assert client.identify(images[1, 0][None]).identity == "Bob"
    with pytest.raises(PeerLostError, match="expected the gallery's key"), session(tmp_path, key=KEY) as client:
        client.verify_identity("Ann", images[0, 0][None])
    with session(tmp_path, key=new) as client:
        assert client.identify(images[1, 0][None]).identity == "Bob", "a wrong key has harmed nothing"


@pytest.mark.slow
def test_two_machines_of_one_client(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        for i, name in enumerate(("Ann", "Bob")):
            client.enroll_identity(name, images[i, 0][None])
        assert client.identify(images[0, 0][None]).identity == "Ann"
    for folder in ("other", "client", "other"):
        (tmp_path / "client").rename(tmp_path / "kept")
        if (tmp_path / "elsewhere").exists():
            (tmp_path / "elsewhere").rename(tmp_path / "client")
        (tmp_path / "kept").rename(tmp_path / "elsewhere")
        with session(tmp_path) as client:
            for i, name in enumerate(("Ann", "Bob")):
                assert client.identify(images[i, 0][None]).identity == name, folder


def test_a_change_between_index_and_query(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        client.enroll_identity("Ann", images[0, 0][None])
        client.enroll_identity("Bob", images[1, 0][None])
        client.update_index()
        with GalleryStore(tmp_path / "gallery.db", MODEL.graph.digest(), 8, GalleryKind.PRIVATE) as store:
            store.remove("Ann")
        assert client.identify(images[1, 0][None]).identity == "Bob", "it is indexed again"
        assert client.identify(images[0, 0][None]).identity != "Ann"


def test_who_guesses_names_is_refused_everything(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        client.enroll_identity("Ann", images[0, :1])
        for number in range(int(GUESSES.capacity)):
            with pytest.raises(QueryRefusedError, match="found none of that name"):
                client.verify_identity(f"guess {number}", images[0, 1:])
        for name in ("one more", "Ann"):
            with pytest.raises(QueryRefusedError, match="next is allowed in"):
                client.verify_identity(name, images[0, 1:])


@pytest.mark.slow
def test_limits(tmp_path: Path, images: Any) -> None:
    with session(tmp_path, limits=(Rate(2, 1), Rate(1, 1))) as client:
        client.enroll_identity("Ann", images[0, 0][None])
        client.enroll_identity("Bob", images[1, 0][None])
        for _ in range(2):
            client.verify_identity("Ann", images[0, 0][None])
        with pytest.raises(QueryRefusedError, match="next is allowed in") as caught:
            client.verify_identity("Ann", images[0, 0][None])
        assert 3000 < (caught.value.retry_after_seconds or 0) <= 3600
        assert client.verify_identity("Bob", images[1, 0][None]).match is True
        client.identify(images[0, 0][None])
        with pytest.raises(QueryRefusedError, match="next is allowed in"):
            client.identify(images[0, 0][None])
    with session(tmp_path, limits=(Rate(2, 1), Rate(1, 1))) as client:
        with pytest.raises(QueryRefusedError):
            client.verify_identity("Ann", images[0, 0][None])


def test_an_identification_of_two_takes_two_tokens(tmp_path: Path, images: Any) -> None:
    with session(tmp_path, limits=(None, Rate(3, 1))) as client:
        for i, name in enumerate(("Ann", "Bob")):
            client.enroll_identity(name, images[i, 0][None])
        client.identify(images[0, 0][None], top=2)
        with pytest.raises(QueryRefusedError, match="next is allowed in"):
            client.identify(images[0, 0][None], top=2)
        client.identify(images[0, 0][None])


def test_everything_is_logged(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        for i, name in enumerate(("Ann", "Bob")):
            client.enroll_identity(name, images[i, 0][None])
        client.verify_identity("Bob", images[1, 0][None])
        client.identify(images[0, 0][None])
        client.rotate_key(GalleryKey(bytes(range(1, 33))))
        client.remove_identities(["Ann"])
    with QueryLimits(tmp_path / "gallery.db") as limits:
        lines = limits.queries()
        assert {(line.client, line.allowed) for line in lines} == {("tests", True)}
        operations = [line.operation for line in lines]
        assert operations == ["enroll", "enroll", "verify", "index", "identify", "rotate-key", "remove"]
        assert [line.tag for line in lines] == [None, limits.tag("Bob"), limits.tag("Bob"), None, None, None, None]


@pytest.mark.slow
def test_the_stored_shares_are_uniform(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        for i in range(60):
            client.enroll_identity(f"person {i}", images[0, 0][None])
    with GalleryStore(tmp_path / "gallery.db", MODEL.graph.digest(), 8, GalleryKind.PRIVATE) as store:
        shares = np.stack([share for _, share in store.entries()])
    assert_uniform_bytes(shares)
    assert len(np.unique(shares)) == shares.size, "one photo enrolled sixty times must not show"


def test_what_is_refused(tmp_path: Path, images: Any) -> None:
    with session(tmp_path) as client:
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            client.identify(images[0, 0][None])
        for name in ("", "x" * 10_001):
            with pytest.raises(ParameterError, match="1 to 10000 characters"):
                client.enroll_identity(name, images[0, 0][None])
        client.enroll_identity("Ann", images[0, 0][None])
        assert client.identify(images[0, 0][None], top=64).identities == ("Ann",), "as many as there are"
        with pytest.raises(ParameterError, match="1 to 64"):
            client.identify(images[0, 0][None], top=65)
        assert client.identify(images[0, 0][None]).identity == "Ann"
