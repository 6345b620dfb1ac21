"""Several sessions about one gallery: who waits for whom, for how long, and that every lock is given up."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import QueryRefusedError, StoreError
from parties.gallery.index.folder import IndexFolder
from parties.gallery.shards.group import ShardGroup
from parties.gallery.shards.remote import RemoteShard, ShardTraffic
from protocols.errors import ParameterError
from support.gallery_sessions import IMAGES, fill, found, index_files, session, shard_threads


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.3)


@contextmanager
def held(folder: Path, shard: int = 0, shared: bool = False) -> Iterator[None]:
    """Hold a lock as another session does."""
    lineage = next(path.name[:32] for path in folder.parent.glob("*/*.lock"))
    with IndexFolder(folder, bytes.fromhex(lineage)).locked(shard, shared):
        yield


def expect_free(folder: Path, shards: int) -> None:
    for side in ("client", "server"):
        for shard in range(shards):
            with held(folder / side, shard):
                pass


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "shard"), [(1, 0), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("side", ["client", "server"])
def test_who_changes_an_index_is_alone(tmp_path: Path, side: str, shards: int, shard: int) -> None:
    with session(tmp_path, shards=shards) as client:
        fill(client)
        client.update_index()
        with (
            held(tmp_path / side, shard, shared=True),
            pytest.raises((StoreError, QueryRefusedError), match="another session uses it"),
        ):
            client.update_index()
        expect_free(tmp_path, shards)
        assert found(client, 1) == "p1", "the session goes on"


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "shard"), [(1, 0), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("side", ["client", "server"])
def test_who_searches_holds_the_index_with_others(tmp_path: Path, side: str, shards: int, shard: int) -> None:
    with session(tmp_path, shards=shards) as client:
        fill(client)
        client.update_index()
        with held(tmp_path / side, shard, shared=True):
            assert found(client, 1) == "p1"
        with (
            held(tmp_path / side, shard),
            pytest.raises(StoreError, match="another session uses it"),
        ):
            client.identify(IMAGES[1][None])
        expect_free(tmp_path, shards)
        assert found(client, 2) == "p2", "the session goes on"


def test_locks_are_held_for_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both sides, of all shards; and for nothing else: a probe's run of the network takes long."""
    with session(tmp_path, shards=2) as client:
        fill(client)
        client.update_index()
        embed, find, states = client._embed, ShardGroup.find, []
        every = [(side, shard) for side in ("client", "server") for shard in range(2)]

        def is_free(side: str, shard: int, shared: bool) -> bool:
            with monkeypatch.context() as patch:
                patch.setattr("parties.machine.locks.LOCK_SECONDS", 0.0)
                try:
                    with held(tmp_path / side, shard, shared):
                        return True
                except StoreError:
                    return False

        def free(shared: bool) -> list[tuple[str, int]]:
            return [one for one in every if is_free(*one, shared)]

        def embedded(value: Any) -> Any:
            states.append(("probe", free(False)))
            return embed(value)

        def searched(self: ShardGroup, *arguments: Any) -> Any:
            if self is client._shards:
                states.append(("search, shared", free(True)))
                states.append(("search, alone", free(False)))
            return find(self, *arguments)

        monkeypatch.setattr(client, "_embed", embedded)
        monkeypatch.setattr(ShardGroup, "find", searched)
        assert found(client, 2) == "p2"
        assert states == [("probe", every), ("search, shared", every), ("search, alone", [])]
        expect_free(tmp_path, 2)


@pytest.mark.slow
def test_a_client_that_stalls_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(tmp_path) as slow, session(tmp_path) as other:
        fill(slow)
        assert found(slow, 1) == "p1"
        gate, reached, embed = threading.Event(), threading.Event(), slow._embed

        def stall(value: Any) -> Any:
            reached.set()
            assert gate.wait(60)
            return embed(value)

        monkeypatch.setattr(slow, "_embed", stall)
        answers: list[str | None] = []
        thread = threading.Thread(target=lambda: answers.append(found(slow, 2)))
        thread.start()
        assert reached.wait(60)
        assert other.remove_identities(["p1"]) == 1
        assert found(other, 0) == "p0"
        gate.set()
        thread.join(60)
        assert answers == ["p2"]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_a_picture_of_the_wrong_size(tmp_path: Path, shards: int) -> None:
    with session(tmp_path, shards=shards) as client:
        fill(client)
        client.update_index()
        with pytest.raises(ParameterError, match="expected images of shape"):
            client.identify(np.zeros((1, 3, 8, 8)))
        expect_free(tmp_path, shards)
        client.enroll_identity("p3", IMAGES[3][None])
        assert found(client, 3) == "p3"


@pytest.mark.parametrize("shards", [1, 3])
def test_a_refusal_gives_up_the_locks(tmp_path: Path, shards: int) -> None:
    with session(tmp_path, shards=shards) as client:
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            client.update_index()
        expect_free(tmp_path, shards)
        fill(client, 1)
        assert found(client, 0) == "p0"


@pytest.mark.parametrize("error", [StoreError("no"), ParameterError("no"), ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("how", ["reading", "writing"])
def test_any_error_gives_up_the_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, how: str
) -> None:
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.0)
    of_client, _, threads = shard_threads(tmp_path, 2)
    for thread in threads:
        thread.start()
    others = [RemoteShard(channel, ShardTraffic()) for channel in of_client]
    folder = IndexFolder(tmp_path / "client", bytes(16))
    group = ShardGroup(None, others, folder, 8, lambda: bytes(32))  # type: ignore[arg-type]
    with group.writing():
        pass
    with pytest.raises(type(error)), getattr(group, how)():
        for shard in range(3):
            with pytest.raises(StoreError), folder.locked(shard):
                pass
        raise error
    for shard in range(3):
        with folder.locked(shard):
            pass
    group.end()


def test_a_wait_is_shorter_than_the_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A party waits for a lock while the other waits for its message: it gives up first, and says why."""
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 60.0)
    with session(tmp_path, timeout=5.0) as client:
        fill(client)
        client.update_index()
        with (
            held(tmp_path / "server", shared=True),
            pytest.raises(QueryRefusedError, match="expected the lock of the gallery's index within 2.5 s"),
        ):
            client.update_index()
        with held(tmp_path / "server"), pytest.raises(StoreError, match="within 2.5 s: another session uses it"):
            client.identify(IMAGES[1][None])
        with held(tmp_path / "client"), pytest.raises(StoreError, match="within 2.5 s: another session uses it"):
            client.identify(IMAGES[1][None])
        assert found(client, 1) == "p1"


def test_a_lock_stays_where_it_is(tmp_path: Path) -> None:
    """Who waits for a file that is removed and made again would hold another one than the rest."""
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
        (lock,) = (tmp_path / "server").glob("*.lock")
        number = lock.stat().st_ino
        client.remove_identities(["p0"])
        assert index_files(tmp_path / "server") == []
        assert lock.stat().st_ino == number
