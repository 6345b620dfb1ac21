"""`hybridface import` of a folder: what is enrolled, what is not and why, and going on after an interruption."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridface.errors import RunError
from hybridface.galleries.import_journal import ImportJournal
from support.ranks import Done

pytestmark = pytest.mark.slow

TINY = ["--model", "tiny-test", "--aligned", "--quiet"]
FILE = ["--model", "tiny-test"]


@pytest.fixture
def people(photos: dict[str, str], home: Path) -> Path:
    """A folder: two photos of Ann, one of Bob, and a file that is too small."""
    folder = home / "people"
    (folder / "Ann").mkdir(parents=True)
    shutil.copy(photos["a"], folder / "Ann" / "1.png")
    shutil.copy(photos["same"], folder / "Ann" / "2.png")
    shutil.copy(photos["different"], folder / "Bob.png")
    Image.fromarray(np.zeros((5, 5, 3), dtype=np.uint8)).save(folder / "small.png")
    return folder


def enrolled(call: Callable[..., Done]) -> dict[str, int]:
    found: dict[str, int] = json.loads(call("list", *FILE, "--json")[1])["enrolled"]
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["private", "list"])
def test_photos_that_cannot_be_used_are_listed_and_can_be_replaced(
    call: Callable[..., Done], photos: dict[str, str], people: Path, kind: str
) -> None:
    command = ["import", "--kind", kind, str(people), *TINY]
    status, out, _ = call(*command)
    assert status == 1
    assert out.splitlines()[0] == "enrolled 3 of 4 photos"
    assert "small.png: expected 16x16 pixels, got 5x5" in out.splitlines()[1]
    assert enrolled(call) == {"Ann": 2, "Bob": 1}
    shutil.copy(photos["a"], people / "small.png")
    assert call(*command)[:2] == (0, "enrolled 4 of 4 photos (3 of them before)\n")
    assert enrolled(call) == {"Ann": 2, "Bob": 1, "small": 1}
    assert not list(people.parent.rglob("*.import")), "nothing is left of an import that has come to its end"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["private", "list"])
def test_an_interrupted_import_goes_on(
    call: Callable[..., Done], people: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (people / "small.png").unlink()
    command = ["import", "--kind", kind, str(people), *TINY]
    add, calls = ImportJournal.add, iter(range(9))

    def interrupted(journal: ImportJournal, identity: str, photo: Path) -> None:
        add(journal, identity, photo)
        if next(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ImportJournal, "add", interrupted)
        status, out, errors = call(*command)
    assert (status, out) == (130, "")
    assert "stopped after 2 of 3 photos; the same command goes on from there" in errors
    assert enrolled(call)["Ann"] == 2
    journal = next(people.parent.rglob("*.import"))
    assert journal.stat().st_mode & 0o777 == 0o600
    status, out, _ = call(*command)
    assert (status, out) == (0, "enrolled 3 of 3 photos (2 of them before)\n")
    found = enrolled(call)
    assert found["Ann"] == 2
    assert 1 <= found["Bob"] <= 2, "the photo in work may have been enrolled already"


@pytest.mark.timeout(120)
def test_who_was_removed_meanwhile_is_enrolled_again(call: Callable[..., Done], people: Path) -> None:
    command = ["import", "--kind", "list", str(people), *TINY]
    assert call(*command)[0] == 1
    assert call("remove", "Ann", *FILE)[0] == 0
    status, out, _ = call(*command, "--json")
    assert (status, json.loads(out)["earlier"]) == (1, 1)
    assert enrolled(call) == {"Ann": 2, "Bob": 1}


def journal_of(tmp_path: Path, enrolled: dict[str, int], gallery: str = "a.db") -> ImportJournal:
    return ImportJournal(tmp_path / "key", tmp_path / gallery, enrolled)


@pytest.mark.parametrize(
    "lines", [[b'["Ann", "12'], [b"null", b"[1, 2]", b"\xff"], [b""]], ids=["cut off", "other", "empty"]
)
def test_a_damaged_journal_says_nothing_and_goes_on(
    tmp_path: Path, photos: dict[str, str], lines: Iterable[bytes]
) -> None:
    photo, other = Path(photos["a"]), Path(photos["same"])
    journal_of(tmp_path, {"Ann": 1}).add("Ann", photo)
    with next(tmp_path.glob("key.*.import")).open("ab") as file:
        file.write(b"\n".join(lines))
    again = journal_of(tmp_path, {"Ann": 1})
    assert again.done("Ann", photo)
    assert not again.done("Ann", other)
    again.add("Ann", other)
    assert journal_of(tmp_path, {"Ann": 2}).done("Ann", other), "a line behind one that was cut off"
    again.end()
    assert not journal_of(tmp_path, {"Ann": 2}).done("Ann", photo)


def test_a_journal_forgets_for_good_who_has_fewer_photos_than_it_says(tmp_path: Path, photos: dict[str, str]) -> None:
    first, second = Path(photos["a"]), Path(photos["same"])
    journal = journal_of(tmp_path, {})
    for photo in (first, second):
        journal.add("Ann", photo)
    journal.add("Bob", first)
    journal = journal_of(tmp_path, {"Ann": 1, "Bob": 1})  # removed, and enrolled with another photo
    assert not journal.done("Ann", first)
    assert journal.done("Bob", first)
    journal.add("Ann", first)
    journal = journal_of(tmp_path, {"Ann": 2, "Bob": 1})
    assert journal.done("Ann", first)
    assert not journal.done("Ann", second), "what was forgotten does not come back"


def test_each_gallery_has_its_own_journal(tmp_path: Path, photos: dict[str, str]) -> None:
    photo = Path(photos["a"])
    journal_of(tmp_path, {}).add("Ann", photo)
    other = journal_of(tmp_path, {"Ann": 1}, "b.db")
    assert not other.done("Ann", photo)
    other.end()
    assert journal_of(tmp_path, {"Ann": 1}).done("Ann", photo)


def test_what_cannot_be_read_or_written(tmp_path: Path, photos: dict[str, str]) -> None:
    journal = journal_of(tmp_path, {})
    journal.add("Ann", Path(photos["a"]))
    assert not journal_of(tmp_path, {"Ann": 1}).done("Ann", tmp_path / "missing.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"import: cannot note what is enrolled"):
        ImportJournal(tmp_path / "file" / "key", tmp_path / "a.db", {})
