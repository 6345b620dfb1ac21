"""A removal takes what was opened of people along, on every rank, or removes nobody; other sessions go on."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridface.galleries.file import GalleryFile
from parties.gallery.errors import QueryRefusedError, StoreError, TracesLeftError
from parties.gallery.index.folder import IndexFolder, group_of
from parties.gallery.kind import GalleryKind
from parties.gallery.store.limits import Rate
from parties.gallery.store.store import GalleryStore
from support.gallery_sessions import IMAGES, KEY, MODEL, fill, found, index_files, opened_store, session


@pytest.fixture
def by_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Remove somebody as the gallery's owner does, in the file."""
    monkeypatch.setattr("hybridface.galleries.file.index_folder", lambda path: tmp_path / "server")

    def remove(name: str) -> int:
        with GalleryFile(tmp_path / "gallery.db", MODEL, GalleryKind.PRIVATE) as file:
            return file.remove([name])

    return remove


def people(folder: Path) -> dict[str, int]:
    with opened_store(folder) as store:
        return store.identities()


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_nothing_is_left_on_either_side(tmp_path: Path, shards: int) -> None:
    for count in (1, 2, 3):  # indexes of other numbers of shards go too
        with session(tmp_path, shards=count) as client:
            if count == 1:
                fill(client)
            assert found(client, 1) == "p1"
    with session(tmp_path, shards=shards) as client:
        assert found(client, 1) == "p1"
        assert client.remove_identities(["p1", "nobody"]) == 1
        assert index_files(tmp_path / "server") == []
        assert index_files(tmp_path / "client") == []
        assert found(client, 0) == "p0", "in the same session, under another build: the dealer is told"
        assert found(client, 2) == "p2"
        assert found(client, 1) != "p1"
        before = index_files(tmp_path / "server")
        assert client.remove_identities(["nobody"]) == 0
        assert index_files(tmp_path / "server") == before, "nobody was removed"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_the_owner_removes_while_a_session_is_open(tmp_path: Path, by_owner: Callable[[str], int], shards: int) -> None:
    with session(tmp_path, shards=shards) as client:
        fill(client)
        assert found(client, 1) == "p1"
        assert by_owner("p1") == 1
        assert index_files(tmp_path / "server") == []
        assert found(client, 0) == "p0"
        assert found(client, 1) != "p1"
        (mask,) = (tmp_path / "server").glob("*.mask")
        groups = {name.split("-")[1] for name in index_files(tmp_path / "server") if name != mask.name}
        assert groups == {group_of(mask.read_bytes())}, "the session has read the new seed"
        assert by_owner("p0") == 1
        client.update_index()
        assert found(client, 2) == "p2"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_another_session_removes(tmp_path: Path, shards: int) -> None:
    with session(tmp_path, shards=shards) as one, session(tmp_path, shards=shards) as other:
        fill(one)
        assert [found(one, 0), found(other, 0)] == ["p0", "p0"]
        one.remove_identities(["p1"])
        other.update_index()
        assert found(other, 0) == "p0"
        assert [found(one, 2), found(other, 2)] == ["p2", "p2"]
        one.enroll_identity("p1", IMAGES[1][None])
        assert found(other, 1) == "p1", "an identification of somebody who is new needs no advice"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("by", ["client", "owner", "other machine"])
def test_a_removal_while_the_probe_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_owner: Callable[[str], int], shards: int, by: str
) -> None:
    """Neither side holds a lock then; the search sees that the index has changed, and goes on with the same probe."""
    runs, tries = [], []
    with (
        session(tmp_path, shards=shards, limits=(None, Rate(1, 1))) as client,
        session(tmp_path, shards=shards) as other,
    ):
        fill(client)
        client.update_index()
        embed, searched = client._embed, client._search

        def embedded(value: Any) -> Any:
            share = embed(value)
            runs.append(share)
            if by == "client":
                other.remove_identities(["p1"])
            elif by == "owner":
                by_owner("p1")
            else:
                shutil.rmtree(tmp_path / "client")
            return share

        def search(*arguments: Any) -> Any:
            tries.append(arguments)
            return searched(*arguments)

        monkeypatch.setattr(client, "_embed", embedded)
        monkeypatch.setattr(client, "_search", search)
        assert found(client, 2) == "p2"
        assert (len(runs), len(tries)) == (1, 2), "one run of the network, one token"
        with pytest.raises(QueryRefusedError, match="next is allowed in"):
            client.identify(IMAGES[0][None])


def test_a_gallery_that_changes_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(tmp_path) as client:
        fill(client)
        changes = iter(range(1000, 2000))
        with monkeypatch.context() as patch:
            patch.setattr(GalleryStore, "last_change", property(lambda _: next(changes)))
            with pytest.raises(QueryRefusedError, match="it has changed 3 times"):
                client.identify(IMAGES[0][None])
        assert found(client, 0) == "p0", "the session goes on"


def test_another_try_needs_a_first_one(tmp_path: Path) -> None:
    """A client that claims to try again, to save a token, is no client."""
    with (
        pytest.raises(BaseException, match="expected another try for at most as many as before"),
        session(tmp_path) as client,
    ):
        fill(client)
        client.update_index()
        client._ask({"operation": "gallery-identify", "top": 1, "again": True})


@pytest.mark.slow
def test_folders_that_have_gone(tmp_path: Path) -> None:
    with session(tmp_path, shards=2) as client:
        fill(client)
        assert found(client, 0) == "p0"
        for side in ("server", "client"):
            shutil.rmtree(tmp_path / side)
            assert found(client, 0) == "p0"


@pytest.mark.slow
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_removal_that_cannot_have_the_index_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_owner: Callable[[str], int], side: str
) -> None:
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.2)
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
        before = index_files(tmp_path / side)
        lineage = bytes.fromhex(before[0][:32])
        with IndexFolder(tmp_path / side, lineage).locked(shared=True):
            with pytest.raises((QueryRefusedError, StoreError), match="another session uses it"):
                client.remove_identities(["p1"])
            if side == "server":
                with pytest.raises(StoreError, match="another session uses it"):
                    by_owner("p1")
            assert people(tmp_path) == {"p0": 1, "p1": 1, "p2": 1}
        assert index_files(tmp_path / side) == before
        assert found(client, 1) == "p1"
        assert client.remove_identities(["p1"]) == 1
        assert people(tmp_path) == {"p0": 1, "p2": 1}


def test_an_index_that_stays_means_that_nobody_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_owner: Callable[[str], int]
) -> None:
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
            with pytest.raises(QueryRefusedError, match="expected the index to be gone, but .* is still there"):
                client.remove_identities(["p1"])
            with pytest.raises(StoreError, match="expected the index to be gone, but .* is still there"):
                by_owner("p1")
        assert people(tmp_path) == {"p0": 1, "p1": 1, "p2": 1}
        assert found(client, 1) == "p1"


def test_that_the_index_is_gone_reaches_the_disk_before_people_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_owner: Callable[[str], int]
) -> None:
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
    remove_many, events = GalleryStore.remove_many, []

    def remove(store: GalleryStore, names: Any) -> int:
        events.append("people")
        return remove_many(store, names)

    monkeypatch.setattr("parties.gallery.index.folder.sync_folder", lambda path: events.append(index_files(path)))
    monkeypatch.setattr(GalleryStore, "remove_many", remove)
    names = index_files(tmp_path / "server")
    assert by_owner("p1") == 1
    assert events == [[name for name in names if not name.endswith(".mask")], [], "people"]


def test_a_symbolic_link(tmp_path: Path, by_owner: Callable[[str], int]) -> None:
    """A folder's is followed; a file's content would stay, so nobody is removed."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "server").symlink_to(tmp_path / "disk")
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
    assert index_files(tmp_path / "disk")
    assert by_owner("p0") == 1
    assert index_files(tmp_path / "disk") == []
    with session(tmp_path) as client:
        client.update_index()
    (opened,) = (tmp_path / "disk").glob("*.opened")
    opened.rename(tmp_path / "elsewhere")
    opened.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="expected an index's file, got a symbolic link: remove what it names"):
        by_owner("p1")
    assert people(tmp_path) == {"p1": 1, "p2": 1}


def test_a_reader_of_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_owner: Callable[[str], int]
) -> None:
    """Who is removed is removed: the session says so, and the index is gone; the owner hears what is left."""
    monkeypatch.setattr(GalleryStore.__init__, "__defaults__", (False, True, 0.2))  # seconds to wait for the reader
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
        reader = sqlite3.connect(tmp_path / "gallery.db")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entry").fetchall()
        assert client.remove_identities(["p1"]) == 1
        assert index_files(tmp_path / "server") == []
        client.update_index()
        with pytest.raises(TracesLeftError, match="a reader still holds the old bytes") as caught:
            by_owner("p2")
        assert caught.value.removed == 1
        assert index_files(tmp_path / "server") == []
        assert people(tmp_path) == {"p0": 1}
        reader.close()
    assert by_owner("nobody") == 0
    assert b"p2" not in (tmp_path / "gallery.db").read_bytes(), "the next removal rewrites the file"


@pytest.mark.slow
@pytest.mark.parametrize("after_erasure", [False, True])
def test_a_crash_leaves_everybody_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_owner: Callable[[str], int], after_erasure: bool
) -> None:
    """Either in the midst of the index's files, of which the seed goes first, or before the rows."""
    with session(tmp_path, shards=2) as client:
        fill(client)
        client.update_index()
    unlink, removed = Path.unlink, []

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def unlink_one(path: Path, missing_ok: bool = False) -> None:
        if removed:
            crash()
        removed.append(path.suffix)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        if after_erasure:
            patch.setattr(GalleryStore, "remove_many", crash)
        else:
            patch.setattr(Path, "unlink", unlink_one)
        with pytest.raises(KeyboardInterrupt):
            by_owner("p1")
    left = set(index_files(tmp_path / "server"))
    assert removed == ([] if after_erasure else [".mask"])
    assert bool(left) is not after_erasure
    assert people(tmp_path) == {"p0": 1, "p1": 1, "p2": 1}
    with session(tmp_path, shards=2) as client:
        assert found(client, 1) == "p1"
    assert not left & set(index_files(tmp_path / "server")), "what is under no seed any more goes"
    assert by_owner("p1") == 1
    assert index_files(tmp_path / "server") == []


@pytest.mark.slow
def test_shards_that_the_owner_cannot_reach(tmp_path: Path, by_owner: Callable[[str], int]) -> None:
    """Their ranks remove what is not under the current seed when they are next asked."""
    far = [tmp_path / f"server shard {number}" for number in (1, 2)]
    with session(tmp_path, shards=3, apart=True) as client:
        fill(client, 6)
        client.update_index()
    before = [set(index_files(folder)) for folder in far]
    assert all(before)
    assert by_owner("p1") == 1
    with session(tmp_path, shards=3, apart=True) as client:
        assert found(client, 4) == "p4"
        for old, folder in zip(before, far, strict=True):
            assert not old & set(index_files(folder))
        client.remove_identities(["p2"])
        assert not any(index_files(folder) for folder in far), "a session reaches them"


def test_rows_that_left_the_store_are_overwritten(tmp_path: Path) -> None:
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
        with opened_store(tmp_path) as store:
            store.remove("p1")  # not as people are removed: the index stays
        client.update_index()
        for side in ("server", "client"):
            (path,) = (tmp_path / side).glob("*.opened")
            opened = np.fromfile(path, dtype=np.uint64).reshape(3, 8)
            assert [bool(row.any()) for row in opened] == [True, False, True]
        assert found(client, 2) == "p2"


def test_files_of_earlier_versions_go(tmp_path: Path, by_owner: Callable[[str], int]) -> None:
    old = [f"{'5e' * 12}-{'0' * 16}.{column}" for column in ("head", "opened", "norms", "rows", "checks")]
    other = [f"{'5e' * 16}.mask", "notes.txt"]
    for how in ("indexing", "removal"):
        with session(tmp_path) as client:
            fill(client, 2)
            if how == "removal":
                client.update_index()
            for name in (*old, f"{'5e' * 12}.lock", *other):
                for side in ("server", "client"):
                    (tmp_path / side).mkdir(exist_ok=True)
                    (tmp_path / side / name).touch()
            if how == "indexing":
                client.update_index()
            else:
                by_owner("p0")
            left = {path.name for path in (tmp_path / "server").iterdir()}
            assert not left & set(old)
            assert left >= set(other)


@pytest.mark.slow
def test_a_server_keeps_few_builds(tmp_path: Path) -> None:
    for number in range(10):
        with session(tmp_path) as client:
            if not number:
                fill(client, 2)
            client.update_index()
        shutil.rmtree(tmp_path / "client")
    assert len(list((tmp_path / "server").glob("*.head"))) == 8


def test_a_seed_that_was_cut(tmp_path: Path) -> None:
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
    (mask,) = (tmp_path / "server").glob("*.mask")
    for damaged in (b"", b"short", bytes(33), bytes(32)):
        before = set(index_files(tmp_path / "server")) - {mask.name}
        mask.write_bytes(damaged)
        with session(tmp_path) as client:
            assert found(client, 0) == "p0"
        assert len(mask.read_bytes()) == 32
        assert mask.read_bytes() != damaged, "zeros are no secret"
        assert mask.stat().st_mode & 0o777 == 0o600
        assert not before & set(index_files(tmp_path / "server")), "another seed, another build"


@pytest.mark.slow
def test_who_is_enrolled_is_kept_and_repaired(tmp_path: Path) -> None:
    with session(tmp_path) as client:
        fill(client)
        client.update_index()
    (path,) = (tmp_path / "client").glob("*.people")
    kept = path.read_bytes()
    assert b"p2" in kept
    assert path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    with session(tmp_path / "other") as client:
        for number in range(3):
            client.enroll_identity(f"q{number}", IMAGES[number][None])
        client.update_index()
    (wrong,) = (tmp_path / "other" / "client").glob("*.people")
    for content in (wrong.read_bytes(), b"damaged", kept[:-1]):
        path.write_bytes(content)
        with session(tmp_path) as client:
            assert found(client, 1) == "p1"
        assert path.read_bytes() == kept
    with session(tmp_path) as client:
        sent = client.update_index()
        assert not [stage for stage in sent.stages if stage.stage == "index" and stage.bytes_up > 100]


def test_one_key_two_galleries(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "client").symlink_to(tmp_path / "client")
    (tmp_path / "client").mkdir()
    with session(tmp_path / "one") as one, session(tmp_path / "two") as two:
        fill(one)
        two.enroll_identity("q4", IMAGES[4][None])
        assert [found(one, 1), found(two, 4)] == ["p1", "q4"]
        two.remove_identities(["q4"])
        assert len(index_files(tmp_path / "client")) == 6, "the other gallery's stay"
        assert found(one, 1) == "p1"
    assert KEY.mask_seed(bytes(16)) != KEY.mask_seed(bytes(range(16)))
