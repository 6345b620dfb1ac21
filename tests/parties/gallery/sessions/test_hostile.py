"""A peer of a gallery's session that says what it must not: numbers out of range, outcomes of nobody, other lists."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import QueryRefusedError, StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions import private_client as client_module
from parties.gallery.sessions import private_server as server_module
from parties.gallery.sessions.private_server import PrivateServerSession
from parties.gallery.sessions.server import GalleryServerSession
from parties.gallery.store.store import GalleryStore
from protocols.errors import UNTOLD, PeerLostError, ProtocolError
from support.gallery_sessions import IMAGES, fill, found, session
from support.list_sessions import MODEL as LIST_MODEL
from support.list_sessions import NAMES
from support.list_sessions import fill as fill_list
from support.list_sessions import session as list_session

WRONG_NUMBERS = [10**400, -1, 0, 2**63, True, 1.5, "1", None, [1]]


@pytest.mark.parametrize("retry", [10**400, float("nan"), float("inf"), -5, True, "x", [1]])
def test_when_to_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retry: object) -> None:
    def refuse(self: Any, error: Exception) -> None:
        document = {"refused": str(error), "retry after": retry, "changed": False}
        self.endpoint.channel.send_document("answer", document)

    monkeypatch.setattr(GalleryServerSession, "_refuse", refuse)
    with pytest.raises(ProtocolError, match="expected (retry after to be a number|JSON)"), session(tmp_path) as client:
        client.verify_identity("x", IMAGES[0][None])


def answers(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Let the server change what it accepts a command with."""
    accept = GalleryServerSession._accept
    monkeypatch.setattr(GalleryServerSession, "_accept", lambda self, **fields: accept(self, **change(fields)))


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["row", "photo", "generation"])
def test_numbers_of_an_enrolment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: object) -> None:
    answers(monkeypatch, lambda fields: fields | {name: wrong})
    with pytest.raises(ProtocolError, match="to be a (whole number|list of 2)"), session(tmp_path) as client:
        client.enroll_identity("p0", IMAGES[0][None])


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [[wrong, 1] for wrong in WRONG_NUMBERS] + [[1, wrong] for wrong in WRONG_NUMBERS])
def test_numbers_of_a_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[object]) -> None:
    with pytest.raises(ProtocolError, match="to be a (whole number|list of 2)"), session(tmp_path) as client:
        fill(client, 1)
        answers(monkeypatch, lambda fields: {"photos": [wrong]})
        client.verify_identity("p0", IMAGES[0][None])


@pytest.mark.slow
@pytest.mark.parametrize("side", [client_module, server_module])
def test_an_outcome_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: Any) -> None:
    """A number above the identities' is no name: neither side takes one from its list for it."""
    real = side.winners
    message = "expected an index of the gallery, got a larger one|ended: it could not go on"
    with pytest.raises((ProtocolError, PeerLostError), match=message), session(tmp_path) as client:
        fill(client)
        client.update_index()

        def larger(*arguments: Any) -> Any:
            real(*arguments)
            return (3,)

        monkeypatch.setattr(side, "winners", larger)
        client.identify(IMAGES[0][None])


def test_an_index_that_cannot_be_used_is_told_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hears that it ended, and no name of a file; the server's own output says why."""
    sides, at_home = list[PrivateServerSession](), list[str]()
    serve = PrivateServerSession.serve

    def watched(self: PrivateServerSession, **hooks: Any) -> None:
        try:
            serve(self, **hooks)
        except StoreError as error:
            at_home.append(str(error))
            raise

    @contextmanager
    def damaged() -> Iterator[None]:
        raise StoreError("/srv/index: damaged")
        yield

    monkeypatch.setattr(PrivateServerSession, "serve", watched)
    with pytest.raises(PeerLostError, match=f"^server ended: {UNTOLD}$"), session(tmp_path, sides=sides) as client:
        fill(client)
        client.update_index()
        monkeypatch.setattr(sides[0]._group, "reading", damaged)
        client.identify(IMAGES[0][None])
    assert at_home == ["/srv/index: damaged"]


def test_more_people_than_an_index_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused before anything is indexed, with advice; shards hold more."""
    monkeypatch.setattr(server_module, "_MOST_ROWS", 2)
    with session(tmp_path) as client:
        fill(client, 3)
        with pytest.raises(QueryRefusedError, match="at most 2 photos in each of 1 parts .*: use more shards"):
            client.identify(IMAGES[0][None])
        client.remove_identities(["p2"])
        assert found(client, 1) == "p1", "the session goes on"


def test_another_try_for_more_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe was admitted for one: whoever asks for two with it has not paid for them."""
    with (
        pytest.raises(PeerLostError, match="another try for at most as many as before, .*, got one for 2"),
        session(tmp_path) as client,
    ):
        fill(client)
        client.update_index()
        ask, embed = client._ask, client._embed

        def ask_for_more(command: dict[str, Any]) -> dict[str, Any]:
            return ask(command | {"top": 2} if command.get("again") else command)

        def embed_while_the_index_goes(value: Any) -> Any:
            share = embed(value)
            shutil.rmtree(tmp_path / "client")
            return share

        monkeypatch.setattr(client, "_ask", ask_for_more)
        monkeypatch.setattr(client, "_embed", embed_while_the_index_goes)
        client.identify(IMAGES[0][None])


def test_a_refused_verification_asks_about_nobody(tmp_path: Path) -> None:
    sides: list[PrivateServerSession] = []
    with session(tmp_path, sides=sides) as client:
        fill(client, 1)
        client.verify_identity("p0", IMAGES[0][None])
        assert sides[0].last_asked == "p0"
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("nobody", IMAGES[0][None])
        assert sides[0].last_asked is None
        assert sides[0].last_decisions == ()


def test_a_list_whose_numbers_are_no_embeddings(tmp_path: Path) -> None:
    """Its distances would wrap, and might seem near: a verification is refused."""
    path = fill_list(tmp_path / "list.db")
    with GalleryStore(path, LIST_MODEL.graph.digest(), 8, GalleryKind.LIST) as store:
        store.enroll("large", np.full(8, 1 << 40, dtype=np.uint64))
    with list_session(path) as (client, _):
        with pytest.raises(QueryRefusedError, match="expected a list's embeddings of numbers below 16"):
            client.verify_identity("large", IMAGES[0][None])
        assert client.verify_identity(NAMES[0], IMAGES[0][None]).match is not None


PLAIN = (
    {"operation": "enroll", "images": 1, "template": "x"},
    {"operation": "verify", "images": 1, "templates": ["x"]},
    {"operation": "verify", "images": 2, "templates": None},
)


@pytest.mark.parametrize("command", PLAIN, ids=lambda command: command["operation"])
def test_a_gallery_obeys_no_command_that_it_does_not_count(tmp_path: Path, command: dict[str, Any]) -> None:
    """Commands of sessions without a gallery would be answered without a limit, and without a line in the log."""
    with pytest.raises(PeerLostError, match="expected operation to be one of gallery-enroll, "):
        with session(tmp_path) as client:
            client._ask(command)
