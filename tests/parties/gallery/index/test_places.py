"""A row of the fixed mask hides one template ever: whatever crashes between its use and the index's files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.index import search as queries
from parties.gallery.index.file import IndexFile
from parties.gallery.index.folder import IndexFolder
from parties.gallery.sessions import private_server as server
from parties.gallery.shards import shard
from protocols.arithmetic.fixed_point import encode
from protocols.channel import CLIENT, SERVER
from protocols.errors import ProtocolError
from support.gallery_sessions import IMAGES, KEY, embeddings, fill, found, index_files, opened_store, session


class Watch:
    """Sees every opening of templates in this process, and lets ranks crash right after one."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.crash: set[int] = set()
        self.used: list[tuple[int, tuple[bytes, ...], int]] = []
        self.opened: list[Any] = []

    def __call__(self, party: Any, mask: Any, templates: Any, places: Any) -> Any:
        self.used += [(party.rank, mask.seeds, place) for place in places.tolist()]
        result = self._real(party, mask, templates, places)
        if party.rank == SERVER:
            self.opened.append(result[0].copy())
        if party.rank in self.crash:
            raise RuntimeError("killed")
        return result

    def expect_no_row_twice(self) -> None:
        assert self.used
        assert len(set(self.used)) == len(self.used), "a row of a party's share of B has hidden two templates"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watched = Watch(queries.index_templates)
    monkeypatch.setattr(queries, "index_templates", watched)
    return watched


def interrupted(folder: Path, shards: int = 1) -> None:
    with (
        pytest.raises(BaseException, match=r"killed|it could not go on|has ended|has failed"),
        session(folder, shards=shards) as client,
    ):
        client.update_index()


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("crash", [{CLIENT}, {SERVER}, {CLIENT, SERVER}])
def test_a_crash_after_the_opening(tmp_path: Path, watch: Watch, crash: set[int], shards: int) -> None:
    with session(tmp_path, shards=shards) as client:
        fill(client, 2)
        assert found(client, 1) == "p1"
        fill(client, 4)
    watch.crash = crash
    for _ in range(2):
        interrupted(tmp_path, shards)
    watch.crash = set()
    with session(tmp_path, shards=shards) as client:
        assert [found(client, number) for number in range(4)] == ["p0", "p1", "p2", "p3"]
    watch.expect_no_row_twice()


def test_another_template_after_the_crash_gets_another_place(tmp_path: Path, watch: Watch) -> None:
    """A photo that was reserved before comes between: its row of the store is the first that is not indexed."""
    with opened_store(tmp_path) as store:
        slow = store.reserve("Slow")
        with session(tmp_path) as client:
            client.enroll_identity("Fast", IMAGES[0][None])
        watch.crash = {CLIENT, SERVER}
        interrupted(tmp_path)
        templates = embeddings(IMAGES[:2])
        share = KEY.share_of(store.scope, "Slow", slow.photo, slow.generation, 8)
        store.commit(slow, encode(templates[1][None])[0] - share)
    watch.crash = set()
    with session(tmp_path) as client:
        assert found(client, 1) == "Slow"
    watch.expect_no_row_twice()
    difference = (watch.opened[0][0] - watch.opened[1][0]).view(np.int64) / 65536
    assert np.abs(difference - (templates[0] - templates[1])).max() > 1, "the difference of two templates"


@pytest.mark.slow
def test_sides_that_agree_go_on_behind_the_places(tmp_path: Path, watch: Watch) -> None:
    with session(tmp_path) as client:
        fill(client, 2)
        client.update_index()
        fill(client, 3)
    heads = index_files(tmp_path / "server")
    watch.crash = {CLIENT, SERVER}
    interrupted(tmp_path)
    watch.crash = set()
    with session(tmp_path) as client:
        assert found(client, 2) == "p2"
    assert index_files(tmp_path / "server") == heads, "no new build"
    assert [place for rank, _, place in watch.used if rank == CLIENT] == [0, 1, *range(2, 5), *range(5, 8)]


@pytest.mark.slow
def test_a_side_that_has_forgotten_means_a_new_build(tmp_path: Path, watch: Watch) -> None:
    """Only one side's head says that the places are used, as if the other's disk had lost it."""
    with session(tmp_path) as client:
        fill(client, 2)
        client.update_index()
        fill(client, 3)
    (head,) = (tmp_path / "client").glob("*.head")
    before = head.read_bytes()
    watch.crash = {CLIENT, SERVER}
    interrupted(tmp_path)
    head.write_bytes(before)
    watch.crash = set()
    with session(tmp_path) as client:
        assert [found(client, number) for number in range(3)] == ["p0", "p1", "p2"]
    watch.expect_no_row_twice()


def test_a_server_that_repeats_itself(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has lost its index, and its part of a build's number is the same again: the client's part makes it another."""
    real = shard.build_of
    monkeypatch.setattr(server, "build_of", lambda client, _: real(client, bytes(16)))
    sent = server.PrivateServerSession._extend

    def extend(self: Any, *arguments: Any) -> None:
        send = self.endpoint.channel.send_document

        def repeat(label: str, document: dict[str, Any]) -> None:
            send(label, document | ({"draws": [bytes(16).hex()]} if label == "indexed" else {}))

        monkeypatch.setattr(self.endpoint.channel, "send_document", repeat)
        sent(self, *arguments)

    monkeypatch.setattr(server.PrivateServerSession, "_extend", extend)
    for _ in range(2):
        with session(tmp_path) as client:
            fill(client, 2)
            assert found(client, 1) == "p1"
        for path in (tmp_path / "server").glob("*.head"):
            path.unlink()
    watch.expect_no_row_twice()


def test_a_build_that_the_client_has_not_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "build_of", lambda client, own: bytes(range(16)))
    with (
        pytest.raises(ProtocolError, match="expected a build's number that both sides have drawn"),
        session(tmp_path) as client,
    ):
        fill(client, 1)
        client.update_index()


def test_places_are_used_before_anything_is_opened(tmp_path: Path) -> None:
    index = IndexFile(IndexFolder(tmp_path, bytes(16)), bytes(32), 4)
    index.clear(bytes(16))
    assert index.take_places(2).tolist() == [0, 1]
    again = IndexFile(IndexFolder(tmp_path, bytes(16)), bytes(32), 4)
    assert (again.used, again.indexed.size) == (2, 0)
    assert again.digest == index.digest
    places = again.take_places(1)
    again.write(places, np.array([7]), np.full((1, 4), 9, dtype=np.uint64), np.array([3], dtype=np.uint64))
    once_more = IndexFile(IndexFolder(tmp_path, bytes(16)), bytes(32), 4)
    assert once_more.indexed.tolist() == [0, 0, 7]
    assert once_more.read().opened.tolist() == [[0] * 4, [0] * 4, [9] * 4]
    assert once_more.read().norms.tolist() == [0, 0, 3]
    assert index.digest != once_more.digest


def test_how_far_places_are_used_is_in_the_digest(tmp_path: Path) -> None:
    one, other = (IndexFile(IndexFolder(tmp_path, bytes(16)), bytes([seed]) * 32, 4) for seed in (1, 2))
    for index in (one, other):
        index.clear(bytes(16))
    assert one.digest == other.digest
    one.take_places(1)
    assert one.digest != other.digest


def test_a_new_build_needs_both(tmp_path: Path) -> None:
    builds = {shard.build_of(bytes([a]) * 16, bytes([b]) * 16) for a in range(4) for b in range(4)}
    assert len(builds) == 16
    assert {len(build) for build in builds} == {16}


def test_an_index_whose_places_are_used_up_begins_anew(tmp_path: Path) -> None:
    folder, seed, build, fresh = IndexFolder(tmp_path, bytes(16)), bytes(32), bytes(16), bytes(range(16))
    index = IndexFile(folder, seed, 4, name=build)
    index.clear(build)
    places = index.take_places(3)[1:]  # the first was used before a crash
    row = np.ones((2, 4), dtype=np.uint64)
    index.write(places, np.array([5, 6]), row, row[:, 0])
    for rows, most, expected in ((2, 3, build), (3, 4, build), (3, 3, fresh)):
        side = shard.Shard(None, folder, seed, 4)  # type: ignore[arg-type]
        assert side.agree(shard.Wanted(build, index.digest, fresh, rows, most)) == expected
    assert side.state() == (fresh, side.state()[1])
