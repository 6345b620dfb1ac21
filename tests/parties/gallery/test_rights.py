"""What a client may do in a gallery: each command needs one right, and tells and changes nothing without it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from parties.gallery.errors import QueryRefusedError, RefusalError
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions import private_server
from parties.gallery.sessions.list_server import ListServerSession
from parties.gallery.sessions.private_server import PrivateServerSession
from parties.gallery.store.limits import QueryLimits, Rate
from parties.gallery.store.store import GalleryStore
from support import gallery_sessions, list_sessions
from support.gallery_sessions import IMAGES, MODEL, NEW_KEY

ONCE = Rate(1, 0.001)
KINDS = {GalleryKind.PRIVATE: PrivateServerSession, GalleryKind.LIST: ListServerSession}
ENROLLED = {GalleryKind.PRIVATE: "p0", GalleryKind.LIST: "Ann"}

Ask = Callable[[Any], Any]

COMMANDS: dict[str, tuple[Right, dict[str, Any]]] = {
    "gallery-enroll": (Right.ENROLL, {"identity": "NAME", "photos": 1}),
    "gallery-verify": (Right.VERIFY, {"identity": "NAME"}),
    "gallery-identify": (Right.IDENTIFY, {"top": 1, "again": False}),
    "gallery-index": (Right.IDENTIFY, {"known": 0, "indexed": [["", "", "00" * 16]]}),
    "gallery-list": (Right.LIST, {}),
    "gallery-remove": (Right.REMOVE, {"identities": ["NAME"]}),
    "gallery-rename": (Right.RENAME, {"identity": "NAME", "name": "p9"}),
    "gallery-rotate": (Right.ROTATE, {"check": "CHECK"}),
    "list-read": (Right.IDENTIFY, {}),
    "list-verify": (Right.VERIFY, {"identity": "NAME"}),
    "list-prepare": (Right.IDENTIFY, {"top": 1}),
    "list-identify": (Right.IDENTIFY, {"top": 1}),
}
"""Each command, with the right that it needs, as a client sends it."""

ASKED: dict[GalleryKind, dict[Right, tuple[Ask, set[str]]]] = {
    GalleryKind.PRIVATE: {
        Right.VERIFY: (lambda client: client.verify_identity("p0", IMAGES[0][None]), {"gallery-verify"}),
        Right.IDENTIFY: (lambda client: client.identify(IMAGES[0][None]), {"gallery-index", "gallery-identify"}),
        Right.ENROLL: (lambda client: client.enroll_identity("p1", IMAGES[1][None]), {"gallery-enroll"}),
        Right.LIST: (lambda client: client.list_identities(), {"gallery-list"}),
        Right.REMOVE: (lambda client: client.remove_identities(["p0"]), {"gallery-remove"}),
        Right.RENAME: (lambda client: client.rename_identity("p0", "p9"), {"gallery-rename"}),
        Right.ROTATE: (lambda client: client.rotate_key(NEW_KEY), {"gallery-rotate"}),
    },
    GalleryKind.LIST: {
        Right.VERIFY: (lambda client: client.verify_identity("Ann", IMAGES[0][None]), {"list-verify"}),
        Right.IDENTIFY: (
            lambda client: client.identify(IMAGES[0][None]),
            {"list-read", "list-prepare", "list-identify"},
        ),
    },
}
"""What a person does with each right, and the commands that the client then sends."""


def names_of(kind: GalleryKind) -> set[str]:
    return {name for name in COMMANDS if name.startswith("list-") == (kind is GalleryKind.LIST)}


@contextmanager
def opened(
    folder: Path, kind: GalleryKind, may: set[Right] | None, heard: list[tuple[str, bool]] | None = None
) -> Iterator[Any]:
    """Open a session of a client with these rights, which may ask each thing once; give the client's side."""

    def hear(operation: str, is_done: bool, seconds: float) -> None:
        assert seconds >= 0
        if heard is not None:
            heard.append((operation, is_done))

    rights = None if may is None else frozenset(may)
    if kind is GalleryKind.PRIVATE:
        with gallery_sessions.session(folder, limits=(ONCE, ONCE), may=rights, on_command=hear) as client:
            yield client
        return
    with list_sessions.session(folder / "gallery.db", limit=ONCE, verify_limit=ONCE, may=rights, on_command=hear) as (
        of_list,
        _,
    ):
        yield of_list


def fill(folder: Path, kind: GalleryKind) -> None:
    """Enrol somebody."""
    if kind is GalleryKind.LIST:
        list_sessions.fill(folder / "gallery.db")
        return
    with gallery_sessions.session(folder) as client:
        gallery_sessions.fill(client, 1)


def content(folder: Path, kind: GalleryKind) -> list[Any]:
    with GalleryStore(folder / "gallery.db", MODEL.graph.digest(), 8, kind) as store:
        return [store.generation, *((entry, share.tobytes()) for entry, share in store.entries())]


def lines_of(folder: Path) -> list[tuple[str, bytes | None, bool]]:
    with QueryLimits(folder / "gallery.db") as limits:
        return [(line.operation, line.tag, line.allowed) for line in limits.queries()]


def refused(client: Any, name: str, person: str) -> str:
    """Send a command as it is; return the reason of its refusal."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        known = {"NAME": lambda: person, "CHECK": lambda: NEW_KEY.check(client.scope, 2)}
        return known[value]() if isinstance(value, str) and value in known else value

    fields = {key: filled(value) for key, value in COMMANDS[name][1].items()}
    with pytest.raises(QueryRefusedError, match=r"^the server refuses: expected the right to ") as caught:
        with client.endpoint.request():
            client._ask({"operation": name, **fields})
    assert caught.value.retry_after_seconds is None
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_needs_the_right_that_this_file_says(tmp_path: Path, kind: GalleryKind) -> None:
    """A new command has no right until somebody thinks of one: here, and beside the table of commands."""
    fill(tmp_path, kind)
    with opened(tmp_path, kind, None):
        pass
    of_kind = KINDS[kind].rights
    assert dict(of_kind) == {name: COMMANDS[name][0] for name in names_of(kind)}
    commands = KINDS[kind].commands.fget  # type: ignore[attr-defined]
    assert set(commands(_Anything())) == set(of_kind)


class _Anything:
    """Has every attribute, so that a table of commands can be made without a session."""

    def __getattr__(self, name: str) -> Any:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("kind", KINDS)
def test_a_right_opens_its_own_commands_and_no_others(tmp_path: Path, kind: GalleryKind, right: Right) -> None:
    fill(tmp_path, kind)
    before, lines = content(tmp_path, kind), len(lines_of(tmp_path))
    heard: list[tuple[str, bool]] = []
    others = [name for name in names_of(kind) if COMMANDS[name][0] is not right]
    with opened(tmp_path, kind, {right}, heard) as client:
        for name in others:
            enrolled, unknown = (refused(client, name, person) for person in (ENROLLED[kind], "nobody"))
            assert enrolled == unknown
            assert f"the right to {COMMANDS[name][0]} here" in enrolled
        assert heard == [(name, False) for name in others for _ in range(2)]
        assert content(tmp_path, kind) == before
        expected = [(COMMANDS[name][0].value, None, False) for name in others for _ in range(2)]
        assert lines_of(tmp_path)[lines:] == expected, "refused, and no word about whom it asked"
        heard.clear()
        if right in ASKED[kind]:
            ask, sent = ASKED[kind][right]
            ask(client)
            assert set(heard) == {(name, True) for name in sent}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_without_rights_hears_so_and_its_session_goes_on(tmp_path: Path, kind: GalleryKind) -> None:
    """Refusals take no token: afterwards a client with the rights has its one answer of each kind."""
    fill(tmp_path, kind)
    before = content(tmp_path, kind)
    with opened(tmp_path, kind, set()) as client:
        for right, (ask, _) in ASKED[kind].items():
            with pytest.raises(QueryRefusedError, match=f"^the server refuses: expected the right to {right} here"):
                ask(client)
    assert content(tmp_path, kind) == before
    with opened(tmp_path, kind, {Right.VERIFY, Right.IDENTIFY}) as client:
        for right in (Right.VERIFY, Right.IDENTIFY):
            ASKED[kind][right][0](client)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_observer_hears_of_refusals_for_other_reasons(tmp_path: Path, kind: GalleryKind) -> None:
    fill(tmp_path, kind)
    heard: list[tuple[str, bool]] = []
    ask, _ = ASKED[kind][Right.VERIFY]
    name = "list-verify" if kind is GalleryKind.LIST else "gallery-verify"
    with opened(tmp_path, kind, {Right.VERIFY}, heard) as client:
        ask(client)
        with pytest.raises(QueryRefusedError, match="the next is allowed in"):
            ask(client)
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("nobody", IMAGES[0][None])
    assert heard == [(name, True), (name, False), (name, False)]


@pytest.mark.slow
def test_the_observer_hears_of_an_identification_that_is_refused_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client cannot use its index any more: nothing was opened, so the command is not done."""
    fill(tmp_path, GalleryKind.PRIVATE)
    heard: list[tuple[str, bool]] = []

    @contextmanager
    def unheld(rank: int, channel: Any, shards: Any) -> Iterator[None]:
        channel.send_document("held", {"refused": "it is held", "changed": False})
        channel.receive_document("held")
        raise RefusalError("it is held")
        yield

    monkeypatch.setattr(private_server, "held_by_both", unheld)
    with opened(tmp_path, GalleryKind.PRIVATE, {Right.IDENTIFY}, heard) as client:
        with pytest.raises(RefusalError, match="it is held"):
            client.identify(IMAGES[0][None])
    assert heard == [("gallery-index", True), ("gallery-identify", False)]
