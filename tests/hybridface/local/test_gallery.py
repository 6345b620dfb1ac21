"""`Gallery` in one process: its verbs, iterators for bulk work, and files that cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from hybridface.errors import ModelError
from hybridface.local.gallery import Gallery
from hybridface.models.model import load_model
from parties.gallery.errors import KeyFileError, QueryRefusedError, StoreError
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
