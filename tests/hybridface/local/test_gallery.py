"""`Gallery` in one process: its verbs, iterators for bulk work, and files that cannot be used."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from hybridface.errors import ModelError, RunError
from hybridface.galleries.import_journal import ImportJournal, held
from hybridface.local.gallery import Gallery
from hybridface.models.model import load_model
from parties.gallery.errors import KeyFileError, QueryRefusedError, StoreError
from parties.gallery.store.store import GalleryStore
from support.tiny_network import save_chips

pytestmark = pytest.mark.slow

MODEL = load_model("tiny-test")


@pytest.mark.slow
def test_the_verbs(tmp_path: Path) -> None:
    save_chips(tmp_path, seed=3)
    a, same, different = (tmp_path / f"{name}.png" for name in ("a", "same", "different"))
    files = tmp_path / "gallery.db", tmp_path / "gallery.key"
    with Gallery(MODEL, *files) as gallery:
        people = [("Ann", a), ("Bob", different), ("Cy", tmp_path / "none.png")]
        outcome = list(gallery.enroll_many(people, aligned=True))
        assert [error is None for *_, error in outcome] == [True, True, False]
        assert gallery.list() == {"Ann": 1, "Bob": 1}
        assert gallery.verify("Ann", same, aligned=True).match is True
    with Gallery(MODEL, *files) as gallery:
        found = gallery.identify(same, aligned=True)
        assert (found.identity, found.identities) == ("Ann", ("Ann",))
        assert found.cost.online.elapsed_seconds > 0
        gallery.enroll("Dan", different, aligned=True)
        assert set(gallery.identify(different, top=2, aligned=True).identities) == {"Bob", "Dan"}
        assert gallery.rotate_key(tmp_path / "new.key") == 2
        assert gallery.remove(["Bob", "nobody"]) == 1
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            gallery.verify("Bob", same, aligned=True)
    with Gallery(MODEL, files[0], tmp_path / "new.key") as gallery:
        assert gallery.identify(same, aligned=True).identity == "Ann"


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("key", ["old.key", None])
def test_the_record_of_imports_follows(tmp_path: Path, key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "list" if key is None else "private"
    (tmp_path / "elsewhere").mkdir()
    with Gallery(MODEL, tmp_path / "g.db", key and tmp_path / key, kind) as gallery:
        gallery.enroll("Ann", np.zeros((16, 16, 3), dtype=np.uint8))
        with GalleryStore(tmp_path / "g.db", MODEL.graph.digest(), 8, None, read_only=True) as store:
            scope, (*_, before) = store.scope, store.listing(0)
        ImportJournal(tmp_path, scope, {1: "Ann"}).add("Ann", before[0].row, bytes(32))
        with held(tmp_path, scope), monkeypatch.context() as patch:
            patch.setattr("parties.machine.locks.LOCK_SECONDS", 0.05)
            with pytest.raises(RunError, match="another import or renaming in this gallery uses it"):
                gallery.rename("Ann", "Bea")
            if key:
                with pytest.raises(RunError, match="another import or renaming in this gallery uses it"):
                    gallery.rotate_key(tmp_path / "elsewhere" / "new.key")
                assert not (tmp_path / "elsewhere" / "new.key").exists()
        gallery.rename("Ann", "Bea")
        if key:
            with monkeypatch.context() as patch:
                patch.setattr("hybridface.galleries.following.take_along", full)
                with pytest.warns(UserWarning, match="imports stays beside .*: No space left"):
                    generation = gallery.rotate_key(tmp_path / "middle.key")
            assert generation == 2
            assert gallery.rotate_key(tmp_path / "elsewhere" / "new.key") == 3
        gallery.rename("Bea", "Anna")
        with GalleryStore(tmp_path / "g.db", MODEL.graph.digest(), 8, None, read_only=True) as store:
            *_, after = store.listing(0)
    folder = tmp_path / "elsewhere" if key else tmp_path
    enrolled = {entry.row: entry.identity for entry in after}
    assert ImportJournal(folder, scope, enrolled).owners(bytes(32)) == {"Anna"}


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, no key, but long enough for a header of a file" * 40)
    with pytest.raises(StoreError, match="text"), Gallery(MODEL, tmp_path / "text", tmp_path / "key"):
        pass
    with pytest.raises(KeyFileError, match="32 bytes"), Gallery(MODEL, tmp_path / "new.db", tmp_path / "text"):
        pass
    with Gallery(MODEL, tmp_path / "gallery.db", tmp_path / "key") as gallery:
        chip = np.zeros((16, 16, 3), dtype=np.uint8)
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            gallery.identify(chip)
    with (
        pytest.raises(StoreError, match="gallery of"),
        Gallery(load_model("patchnet"), tmp_path / "gallery.db", tmp_path / "key"),
    ):
        pass
    with pytest.raises(ModelError, match="weights"):
        Gallery(load_model("tiny-test", weights=False), tmp_path / "gallery.db", tmp_path / "key")
