"""A change of key: whatever fails, and when, it is said which key the gallery is under, and that key opens it."""

from pathlib import Path
from typing import Any

import pytest

from parties.gallery.errors import QueryRefusedError, StoreError
from parties.gallery.index.folder import IndexFolder
from parties.gallery.key import GalleryKey
from parties.gallery.sessions.key_check import KeyCheck
from parties.gallery.store.store import GalleryStore
from parties.gallery.store.tables import Tables
from protocols.errors import PeerLostError
from support.gallery_sessions import IMAGES, KEY, NEW_KEY, fill, found, index_files, session

pytestmark = pytest.mark.slow


def opens(folder: Path, key: GalleryKey) -> bool:
    """Return whether a key opens the gallery, and finds whom it holds."""
    try:
        with session(folder, key=key) as client:
            assert client.verify_identity("p0", IMAGES[0][None]).match is True
            assert found(client, 2) == "p2"
            return True
    except PeerLostError as error:
        if "expected the gallery's key, the client has another one" not in str(error):
            raise
        return False


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A gallery that was searched in one part and in two."""
    for shards in (1, 2):
        with session(tmp_path, shards=shards) as client:
            if shards == 1:
                fill(client)
            client.update_index()
    return tmp_path


def test_every_index_of_the_old_key_goes(filled: Path) -> None:
    with session(filled) as client:
        assert client.rotate_key(NEW_KEY) == 2
        assert index_files(filled / "server") == index_files(filled / "client") == []
        assert found(client, 1) == "p1"
    assert (opens(filled, NEW_KEY), opens(filled, KEY)) == (True, False)


@pytest.mark.parametrize("side", ["server", "client"])
def test_it_is_refused_beside_an_identification(filled: Path, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.2)
    lineage = bytes.fromhex(index_files(filled / "server")[0][:32])
    with session(filled) as client:
        with IndexFolder(filled / side, lineage).locked(shared=True):
            error = (QueryRefusedError if side == "server" else StoreError), "another session uses it"
            with pytest.raises(error[0], match=error[1]) as caught:
                client.rotate_key(NEW_KEY)
        if side == "server":
            assert str(caught.value).endswith("; the gallery stays under the old key")
        assert found(client, 1) == "p1", "the session goes on"
        assert client.rotate_key(NEW_KEY) == 2
    assert opens(filled, NEW_KEY)


def failing(*_: Any, **__: Any) -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize("moment", ["before", "in the midst", "between commit and answer", "after the answer"])
def test_a_server_that_fails(filled: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    where: dict[str, tuple[Any, str]] = {
        "before": (GalleryStore, "replace_shares"),
        "in the midst": (Tables, "put_share"),
        "after the answer": (KeyCheck, "replace"),
    }
    replace = GalleryStore.replace_shares

    def replace_and_fail(self: GalleryStore, pairs: Any) -> None:
        replace(self, pairs)
        failing()

    advice = "under the new key" if moment == "after the answer" else "keep both keys: .* under one of them"
    with monkeypatch.context() as patch:
        if moment in where:
            patch.setattr(*where[moment], failing)
        else:
            patch.setattr(GalleryStore, "replace_shares", replace_and_fail)
        with pytest.raises(PeerLostError, match=advice), session(filled) as client:
            client.rotate_key(NEW_KEY)
    has_changed = moment in ("between commit and answer", "after the answer")
    right, wrong = (NEW_KEY, KEY) if has_changed else (KEY, NEW_KEY)
    assert not opens(filled, wrong), "also as the first that is tried afterwards"
    assert opens(filled, right)


def test_what_is_left_of_the_old_shares_is_no_failure(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new ones are in use then; the old ones go as after a crash."""
    with monkeypatch.context() as patch:

        def full(*_: Any) -> bool:
            raise StoreError("gallery.db: the disk is full")

        patch.setattr("parties.gallery.store.database.Database.truncate_log", full)
        with session(filled) as client:
            assert client.rotate_key(NEW_KEY) == 2
    assert opens(filled, NEW_KEY)


def test_a_session_under_the_old_key_ends(filled: Path) -> None:
    """Its shares would be noise: of what it enrols, and of what it has indexed."""
    for work in (
        lambda client: client.update_index(),
        lambda client: client.verify_identity("p0", IMAGES[0][None]),
        lambda client: client.enroll_identity("p5", IMAGES[5][None]),
    ):
        keys = (KEY, NEW_KEY) if opens(filled, KEY) else (NEW_KEY, KEY)
        with (
            pytest.raises(BaseException, match="expected the gallery's key as it was, but it has changed"),
            session(filled, key=keys[0]) as old,
        ):
            with session(filled, key=keys[0]) as other:
                other.rotate_key(keys[1])
            work(old)
        assert opens(filled, keys[1])


@pytest.mark.parametrize("check", ["", "x" * 32, "0" * 31, "0" * 33, "A" * 32])
def test_a_check_that_is_none(filled: Path, monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    with (
        pytest.raises(PeerLostError, match="expected check to be 16 bytes in hexadecimal, got a text"),
        session(filled) as client,
    ):
        monkeypatch.setattr(GalleryKey, "check", lambda *_: check)
        client.rotate_key(NEW_KEY)
    monkeypatch.undo()
    assert opens(filled, KEY)
