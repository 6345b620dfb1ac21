"""What the servers of galleries obey, from their own tables: whatever can open something is limited and logged."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from parties.gallery.errors import IndexChangedError, QueryRefusedError
from parties.gallery.sessions import private_client as client_module
from parties.gallery.shards.shard import Shard
from parties.gallery.store.limits import QueryLimits, Rate
from protocols.errors import PeerLostError
from support import list_sessions
from support.gallery_sessions import IMAGES, NEW_KEY, session

ONCE = (Rate(1, 0.001), Rate(1, 0.001))

Ask = Callable[[Any], Any]

LIMITED: dict[str, tuple[str, Ask]] = {
    "gallery-verify": ("verify", lambda client: client.verify_identity("p0", IMAGES[0][None])),
    "gallery-identify": ("identify", lambda client: client.identify(IMAGES[0][None])),
    "list-verify": ("verify", lambda client: client.verify_identity("Ann", IMAGES[0][None])),
    "list-identify": ("identify", lambda client: client.identify(IMAGES[0][None])),
}
"""What opens something of a gallery's people: the line that the log has of it, and how to ask."""

LOGGED: dict[str, tuple[str, Ask]] = {
    "gallery-enroll": ("enroll", lambda client: client.enroll_identity("p1", IMAGES[1][None])),
    "gallery-index": ("index", lambda client: client.update_index()),
    "gallery-list": ("list", lambda client: client.list_identities()),
    "gallery-remove": ("remove", lambda client: client.remove_identities(["nobody"])),
    "gallery-rename": ("rename", lambda client: client.rename_identity("p0", "p9")),
    "gallery-rotate": ("rotate-key", lambda client: client.rotate_key(NEW_KEY)),
    "list-read": ("read", lambda client: client.update_index()),
}
"""What opens nothing of a photo, but tells who is enrolled, or changes that: as the client has the right to."""

NEITHER = {
    "list-prepare": "makes masks and correlations for an identification, and opens nothing",
    "prepare": "makes masks and correlations, which depend on no input",
    "kept server": "tells who keeps the client's prepared runs: a random number",
    "kept runs": "compares random numbers of prepared runs",
    "keep": "writes a prepared run, which depends on no input",
    "adopt": "reads one",
}
"""What needs no line in the log, and why."""


@contextmanager
def opened(folder: Path, kind: str) -> Iterator[tuple[Any, list[Any]]]:
    """Open a session about a gallery with one query of each kind, and give the client's and the server's sides."""
    sides: list[Any] = []
    if kind == "list":
        path = list_sessions.fill(folder / "gallery.db")
        with list_sessions.session(path, limit=ONCE[0], verify_limit=ONCE[1]) as (client, servers):
            yield client, servers
        return
    with session(folder, limits=ONCE, sides=sides) as private:
        private.enroll_identity("p0", IMAGES[0][None])
        yield private, sides


def lines_of(folder: Path) -> list[tuple[str, bool]]:
    with QueryLimits(folder / "gallery.db") as limits:
        return [(line.operation, line.allowed) for line in limits.queries()]


@pytest.mark.parametrize("kind", ["gallery", "list"])
def test_every_command_is_limited_or_logged_or_has_a_reason(tmp_path: Path, kind: str) -> None:
    with opened(tmp_path, kind) as (client, sides):
        client.update_index()
        commands, every = set(sides[0].commands), {*sides[0].commands, *sides[0].endpoint.commands}
    assert commands
    known = {*LIMITED, *LOGGED, *NEITHER}
    assert not every - known
    assert {one for one in known if one.startswith(kind)} == commands


@pytest.mark.parametrize("command", LIMITED)
def test_what_opens_something_takes_a_token_and_a_line(tmp_path: Path, command: str) -> None:
    operation, ask = LIMITED[command]
    with opened(tmp_path, command.partition("-")[0]) as (client, _):
        ask(client)
        for _ in range(2):
            with pytest.raises(QueryRefusedError, match="the next is allowed in"):
                ask(client)
    assert [line for line in lines_of(tmp_path) if line[0] == operation] == [
        (operation, True),
        (operation, False),
        (operation, False),
    ]


@pytest.mark.parametrize("command", LOGGED)
def test_what_tells_who_is_enrolled_takes_a_line(tmp_path: Path, command: str) -> None:
    operation, ask = LOGGED[command]
    with opened(tmp_path, command.partition("-")[0]) as (client, _):
        before = lines_of(tmp_path)
        ask(client)
        assert lines_of(tmp_path) == [*before, (operation, True)]


@pytest.mark.parametrize("kind", ["gallery", "list"])
def test_a_refused_verification_is_logged_as_refused(tmp_path: Path, kind: str) -> None:
    with opened(tmp_path, kind) as (client, _):
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            client.verify_identity("nobody", IMAGES[0][None])
    assert lines_of(tmp_path)[-1] == ("verify", False)


def test_a_client_whose_index_changes_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token would buy any number of products of the index's mask."""
    prepared: list[int] = []
    prepare = Shard.prepare

    def counted(shard: Shard, top: int) -> None:
        prepared.append(top)
        prepare(shard, top)

    @contextmanager
    def lie(rank: int, channel: Any, shards: Any) -> Iterator[None]:
        channel.send_document("held", {"refused": "it has changed", "changed": True})
        channel.receive_document("held")
        raise IndexChangedError("a lie")
        yield

    monkeypatch.setattr(client_module, "held_by_both", lie)
    monkeypatch.setattr(client_module, "_TRIES", 20)
    monkeypatch.setattr(Shard, "prepare", counted)
    with pytest.raises(PeerLostError, match="and at most 3 in all"), opened(tmp_path, "gallery") as (client, _):
        client.identify(IMAGES[0][None])
    assert [line for line in lines_of(tmp_path) if line[0].startswith("identify")] == [
        ("identify", True),
        ("identify again", True),
        ("identify again", True),
    ]
    assert len(prepared) == 2 * 3, "on both sides, three times"
