"""Which photos are enrolled: known by their content, whatever has been cut off, lost or removed since."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from hybridface.errors import RunError
from hybridface.galleries import import_journal
from hybridface.galleries.import_journal import (
    ImportJournal,
    forget_older_record,
    held,
    moving,
    photo_digest,
    take_along,
)

SCOPE = bytes(range(16))
ONE, TWO = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()


def test_a_photo_is_known_by_its_content_and_row(tmp_path: Path) -> None:
    journal = ImportJournal(tmp_path / "new", SCOPE, {})
    journal.add("Ann", 1, ONE)
    journal.add("Bob", 2, TWO)
    assert (journal.owners(ONE), journal.owners(TWO), journal.owners(bytes(32))) == ({"Ann"}, {"Bob"}, set())
    again = ImportJournal(tmp_path / "new", SCOPE, {1: "Anna", 3: "Bob"})
    assert again.owners(ONE) == {"Anna"}, "whose a row is, the gallery says"
    assert again.owners(TWO) == set(), "a row that has gone is no photo"
    again.add("Bob", 4, TWO)
    assert ImportJournal(tmp_path / "new", SCOPE, {1: "Anna", 2: "x", 4: "Bob"}).owners(TWO) == {"Bob"}


@pytest.mark.parametrize(
    "lines", [[b'[3, "12'], [b"null", b"[1, 2]", b"\xff", b"[" * 100_000], [b""], [b'[-1, "' + b"0" * 32 + b'"]']]
)
def test_a_damaged_record_says_nothing_and_goes_on(tmp_path: Path, lines: Iterable[bytes]) -> None:
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    with next(tmp_path.glob("*.imported")).open("ab") as file:
        file.write(b"\n" + b"\n".join(lines))
    again = ImportJournal(tmp_path, SCOPE, {1: "Ann"})
    assert (again.owners(ONE), again.owners(TWO)) == ({"Ann"}, set())
    again.add("Ann", 2, TWO)
    assert ImportJournal(tmp_path, SCOPE, {1: "Ann", 2: "Ann"}).owners(TWO) == {"Ann"}, "behind what was cut off"


def test_a_damaged_row_gives_a_photo_to_nobody(tmp_path: Path) -> None:
    """Another person's photo would count as enrolled, or this one as somebody else's."""
    journal = ImportJournal(tmp_path, SCOPE, {})
    journal.add("Ann", 1, ONE)
    journal.add("Bob", 2, TWO)
    record = next(tmp_path.glob("*.imported"))
    whole, people = record.read_text(), {1: "Ann", 2: "Bob", 3: "Cy"}
    for one, other in (("[1,", "[3,"), ("[1,", "[2,"), ("[1,", "[true,"), ("[1,", "[1.0,")):
        record.write_text(whole.replace(one, other))
        assert ImportJournal(tmp_path, SCOPE, people, read_only=True).owners(ONE) == set(), other
        assert ImportJournal(tmp_path, SCOPE, people, read_only=True).owners(TWO) == {"Bob"}


def test_another_secret_does_not_fit_the_record(tmp_path: Path) -> None:
    """With it no photo would be known, and all would be enrolled again."""
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    secret, record = (next(tmp_path.glob(f"*{suffix}")) for suffix in (".imported-key", ".imported"))
    before = record.read_bytes()
    secret.write_bytes(bytes(range(32)))
    with pytest.raises(RunError, match="its secret is damaged, expected the one under .*; restore both files, or rem"):
        ImportJournal(tmp_path, SCOPE, {1: "Ann"})
    with moving(tmp_path, SCOPE) as note, pytest.raises(RunError, match="cannot note who was renamed, .* is damaged"):
        note({1: 2})
    assert record.read_bytes() == before


def test_a_record_of_an_older_version_counts(tmp_path: Path) -> None:
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    record = next(tmp_path.glob("*.imported"))
    row, tag, _ = json.loads(record.read_text())
    record.write_text(f"\n{json.dumps([row, tag])}")
    assert ImportJournal(tmp_path, SCOPE, {1: "Ann"}, read_only=True).owners(ONE) == {"Ann"}
    with moving(tmp_path, SCOPE) as note:
        note({1: 5})
    assert ImportJournal(tmp_path, SCOPE, {5: "Ann"}).owners(ONE) == {"Ann"}
    assert len(json.loads(record.read_text())) == 3


def test_a_link_to_nothing_is_no_empty_record(tmp_path: Path) -> None:
    """The disk that holds the record may be away; an import would enrol everything again."""
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    record = next(tmp_path.glob("*.imported"))
    record.unlink()
    record.symlink_to("away")
    with pytest.raises(RunError, match=r"imported: cannot note what is enrolled: No such file"):
        ImportJournal(tmp_path, SCOPE, {1: "Ann"})
    assert record.is_symlink()


@pytest.mark.timeout(60)
def test_a_record_of_very_many_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_journal, "_MOST_LINES", 1000)
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    with next(tmp_path.glob("*.imported")).open("ab") as file:
        file.write(b"\n" * 1000)
    with pytest.raises(RunError, match="imported: cannot note what is enrolled: expected at most 1000 lines"):
        ImportJournal(tmp_path, SCOPE, {1: "Ann"})


def test_a_record_alone_says_nothing_of_a_photo(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ImportJournal(tmp_path / folder, SCOPE, {}).add("Ann", 1, ONE)
    texts = [next((tmp_path / folder).glob("*.imported")).read_text() for folder in ("a", "b")]
    assert ONE.hex()[:16] not in "".join(texts)
    assert texts[0] != texts[1], "each has a secret of its own"
    assert "Ann" not in texts[0]


def test_without_its_secret_a_record_is_refused(tmp_path: Path) -> None:
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    secret = next(tmp_path.glob("*.imported-key"))
    kept = secret.read_bytes()
    secret.unlink()
    with pytest.raises(RunError, match=r"useless without gallery-0001.*\.imported-key; restore that, or remove both"):
        ImportJournal(tmp_path, SCOPE, {1: "Ann"})
    for content in (b"", bytes(32), kept + b"x"):
        secret.write_bytes(content)
        with pytest.raises(RunError, match="its secret is damaged"):
            ImportJournal(tmp_path, SCOPE, {1: "Ann"})
    secret.unlink()
    ImportJournal(tmp_path, SCOPE, {2: "Ann"})  # nothing in it counts any more


def test_each_gallery_has_its_own_record(tmp_path: Path) -> None:
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    assert ImportJournal(tmp_path, bytes(16), {1: "Ann"}).owners(ONE) == set()


def test_a_record_that_is_only_read(tmp_path: Path) -> None:
    assert ImportJournal(tmp_path / "none", SCOPE, {1: "Ann"}, read_only=True).owners(ONE) == set()
    assert not (tmp_path / "none").exists()
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert ImportJournal(tmp_path, SCOPE, {1: "Ann"}, read_only=True).owners(ONE) == {"Ann"}
    ImportJournal(tmp_path, SCOPE, {}, read_only=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_an_older_version_noted_is_removed(tmp_path: Path) -> None:
    name = hashlib.sha256(str((tmp_path / "a.db").resolve()).encode()).hexdigest()[:16]
    (tmp_path / f"key.{name}.import").write_text("names, and hashes that need no secret")
    for _ in range(2):
        forget_older_record(tmp_path / "key", tmp_path / "a.db")
        assert not list(tmp_path.iterdir())


def test_a_record_follows_the_key(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    ImportJournal(old, SCOPE, {}).add("Ann", 1, ONE)
    ImportJournal(old, bytes(16), {}).add("Bob", 1, ONE)
    take_along(SCOPE, old, new)
    assert len(list(new.iterdir())) == 2, "of this gallery alone"
    assert ImportJournal(new, SCOPE, {1: "Ann"}).owners(ONE) == {"Ann"}
    assert [path.stat().st_mode & 0o777 for path in new.iterdir()] == [0o600, 0o600]
    take_along(SCOPE, new, new)
    assert ImportJournal(new, SCOPE, {1: "Ann"}).owners(ONE) == {"Ann"}


def test_a_record_comes_back_with_what_was_added_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    ImportJournal(old, SCOPE, {}).add("Ann", 1, ONE)
    new.mkdir()
    take_along(SCOPE, old, new)
    ImportJournal(new, SCOPE, {}).add("Bob", 2, TWO)
    take_along(SCOPE, new, old)
    assert ImportJournal(old, SCOPE, {2: "Bob"}).owners(TWO) == {"Bob"}
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(import_journal, "write_durably", full)
        take_along(SCOPE, old, new)
    assert ImportJournal(new, SCOPE, {1: "Ann"}).owners(ONE) == set(), "no record, and nothing is in the way of one"


def test_a_record_follows_new_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ImportJournal(tmp_path, SCOPE, {}).add("Ann", 1, ONE)
    with moving(tmp_path, SCOPE) as note:
        with pytest.raises(RunError), held(tmp_path, SCOPE, 0.01):
            pytest.fail("an import began")
        note({1: 5, 2: 6})
    assert ImportJournal(tmp_path, SCOPE, {5: "Anna"}).owners(ONE) == {"Anna"}
    with moving(tmp_path, SCOPE) as note, monkeypatch.context() as patch:
        patch.setattr(import_journal, "write_durably", full)
        with pytest.raises(RunError, match="cannot note who was renamed, .* may enrol these photos again: No space"):
            note({5: 6})


def test_where_no_import_can_be_noted_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_journal.os, "access", lambda *_: False)
    with moving(tmp_path, SCOPE) as note:
        note({1: 5})
    assert not list(tmp_path.iterdir())


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_one_alone_holds_a_record(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b", SCOPE):
        with pytest.raises(
            RunError, match=r"^expected the lock of the record of imports within 0\.01 s: another import"
        ):
            with held(tmp_path / "a" / "b", SCOPE, 0.01):
                pytest.fail("held twice")
        with held(tmp_path / "a" / "b", bytes(16), 0.01), held(tmp_path, SCOPE, 0.01):
            pass
    with held(tmp_path / "a" / "b", SCOPE, 0.01):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="imported-lock: cannot lock the record of imports: Not a directory"):
        with held(tmp_path / "file", SCOPE):
            pytest.fail("no folder")


def test_what_cannot_be_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"imported: cannot note what is enrolled"):
        ImportJournal(tmp_path / "file", SCOPE, {})
    journal = ImportJournal(tmp_path, SCOPE, {})
    next(tmp_path.glob("*.imported")).unlink()
    with pytest.raises(RunError, match=r"imported: cannot note what is enrolled: No such file"):
        journal.add("Ann", 1, ONE)
    (tmp_path / "large").write_bytes(b"123")
    assert photo_digest(tmp_path / "large") == hashlib.sha256(b"123").digest()
    monkeypatch.setattr(import_journal, "_MOST_BYTES", 2)
    with pytest.raises(ValueError, match="expected a photo of at most"):
        photo_digest(tmp_path / "large")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end_is_refused(tmp_path: Path, kind: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    ImportJournal(old, SCOPE, {}).add("Ann", 1, ONE)
    record = next(old.glob("*.imported"))
    record.unlink()
    os.mkfifo(record) if kind == "pipe" else record.symlink_to("/dev/zero")
    with pytest.raises(RunError, match="cannot note what is enrolled: expected a plain file"):
        ImportJournal(old, SCOPE, {1: "Ann"})
    with moving(old, SCOPE) as note, pytest.raises(RunError, match="cannot note who was renamed, .*a plain file"):
        note({1: 2})
    with pytest.raises(OSError, match="expected a plain file"):
        take_along(SCOPE, old, new)
    with pytest.raises(OSError, match="expected a plain file"):
        photo_digest(record)
