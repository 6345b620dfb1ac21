"""People renamed, single photos removed and replaced, and old names brought to the form of new ones."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.import_journal import ImportJournal, held
from hybridface.galleries.tasks import GalleryTask, Verb, write_tasks
from hybridface.models.model import load_model
from parties.gallery.errors import StoreError, TracesLeftError
from parties.gallery.key import create_key
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import GalleryStore, header_of
from support.ranks import Done, Ranks, ranks_in_threads

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TINY = ["--model", "tiny-test", "--aligned", "--quiet"]
FILE = ["--model", "tiny-test"]
SESSION = [*FILE, "--quiet"]
KINDS = pytest.mark.parametrize("kind", list(GalleryKind))


def photos_of(call: Callable[..., Done]) -> dict[str, list[int]]:
    people = json.loads(call("list", *FILE, "--photos", "--json")[1])["people"]
    found: dict[str, list[int]] = {person["identity"]: person["numbers"] for person in people}
    return found


def gallery_of(home: Path) -> Path:
    return home / "XDG_DATA_HOME" / "hybridface" / "gallery.db"


@KINDS
def test_somebody_gets_another_name(call: Callable[..., Done], photos: dict[str, str], home: Path, kind: str) -> None:
    assert call("enroll", "--kind", kind, "--id", "Ann", photos["a"], photos["same"], *TINY)[0] == 0
    assert call("enroll", "--id", "Bob", photos["different"], *TINY)[0] == 0
    assert call("identify", photos["a"], *TINY)[:2] == (0, "Ann\n"), "there is an index"
    assert call("rename", "Ann", "Zoe\u0308", *SESSION) == (0, "'Ann' is 'Zoë' now\n", "")
    assert {name: len(numbers) for name, numbers in photos_of(call).items()} == {"Bob": 1, "Zoë": 2}
    assert call("identify", photos["a"], *TINY)[:2] == (0, "Zoë\n")
    assert call("verify", "--id", "Zoë", photos["same"], *TINY)[:2] == (0, "same person\n")
    assert call("verify", "--id", "Zoë", photos["different"], *TINY)[:2] == (1, "different people\n")
    assert call("verify", "--id", "Ann", photos["a"], *TINY)[0] == 2
    assert call("identify", photos["different"], *TINY)[:2] == (0, "Bob\n")
    assert b"Ann" not in gallery_of(home).read_bytes(), "the old name leaves no trace"
    assert call("enroll", "--id", "Ann", photos["different"], *TINY)[0] == 0, "somebody else may have it"
    assert call("verify", "--id", "Ann", photos["different"], *TINY)[0] == 0


@pytest.mark.parametrize("option", ["--key", "--timeout"])
def test_options_of_a_session_are_refused_where_names_are_only_said(
    call: Callable[..., Done], home: Path, option: str
) -> None:
    assert call("create-gallery", *FILE)[0] == 0
    refusal = f"hybridface: expected no {option} without --fix: it would do nothing\n"
    assert call("check-names", *FILE, option, "300") == (2, "", refusal)


@KINDS
def test_two_people_are_never_made_one(
    call: Callable[..., Done], photos: dict[str, str], home: Path, kind: str
) -> None:
    for name, photo in (("Ann", "a"), ("Bob", "different")):
        assert call("enroll", "--kind", kind, "--id", name, photos[photo], *TINY)[0] == 0
    status, out, errors = call("rename", "Ann", "Bob", *SESSION)
    assert (status, out) == (2, "")
    assert "found somebody of that name: choose another one" in errors
    status, out, _ = call("rename", "Ann", "Bob", *SESSION, "--json")
    error = {"kind": "query_refused", "message": errors.removeprefix("hybridface: ").rstrip("\n")}
    assert (status, json.loads(out)) == (2, {"error": error})
    assert "found none of that name" in call("rename", "Cy", "Dan", *SESSION)[2]
    status, _, errors = call("rename", "Ann", " Ann", *SESSION)
    assert status == 2
    assert "begins or ends with white space" in errors
    assert photos_of(call) == {"Ann": [1], "Bob": [1]}
    assert call("verify", "--id", "Ann", photos["a"], *TINY)[0] == 0


@KINDS
def test_one_photo_is_removed_or_replaced(
    call: Callable[..., Done], photos: dict[str, str], home: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("enroll", "--kind", kind, "--id", "Ann", photos["a"], photos["different"], *TINY)[0] == 0
    assert call("identify", photos["different"], *TINY)[:2] == (0, "Ann\n")
    assert call("remove", "Ann", "--photo", "2", *FILE)[:2] == (0, "removed 1 photo\n")
    assert photos_of(call) == {"Ann": [1]}
    assert call("identify", photos["different"], *TINY)[:2] == (1, "unknown\n"), "no index has it any more"
    assert call("identify", photos["same"], *TINY)[:2] == (0, "Ann\n")
    for arguments, said in (
        (("remove", "Ann", "--photo", "2", *FILE), "by their numbers (1), got 2"),
        (("remove", "Bob", "--photo", "1", *FILE), "by their numbers (none), got 1"),
        (("remove", "Ann", "Bob", "--photo", "1", *FILE), "expected one person with --photo, got 2"),
        (("enroll", "--id", "Ann", "--replace", "9", photos["a"], *TINY), "by their numbers (1), got 9"),
    ):
        status, out, errors = call(*arguments)
        assert (status, out) == (2, "")
        assert said in errors
    assert call("enroll", "--id", "Ann", "--replace", "1", photos["different"], *TINY)[0] == 0
    assert photos_of(call) == {"Ann": [3]}
    assert call("verify", "--id", "Ann", photos["different"], *TINY)[0] == 0
    assert call("verify", "--id", "Ann", photos["a"], *TINY)[0] == 1
    with monkeypatch.context() as patch:

        def held(*_: Any) -> None:
            raise StoreError("another process held the store")

        patch.setattr(GalleryStore, "remove_photos", held)
        status, _, errors = call("enroll", "--id", "Ann", "--replace", "3", photos["a"], *TINY)
    assert status == 2
    assert "the new photos are enrolled, but photo 3 is not removed: another process held the store" in errors
    assert call("remove", "Ann", "--photo", "3", "--photo", "4", *FILE)[:2] == (0, "removed 2 photos\n")
    assert photos_of(call) == {}, "without photos there is nobody"


@KINDS
def test_imports_know_who_was_renamed(call: Callable[..., Done], photos: dict[str, str], home: Path, kind: str) -> None:
    (home / "people" / "Ann").mkdir(parents=True)
    for name in ("a", "same"):
        shutil.copy(photos[name], home / "people" / "Ann")
    command = ["import", "--kind", kind, str(home / "people"), *TINY]
    assert call(*command)[0] == 0
    assert call("rename", "Ann", "Anna", *SESSION)[0] == 0
    assert "the same photo is enrolled as 'Anna'" in call(*command)[1]
    (home / "people" / "Ann").rename(home / "people" / "Anna")
    assert call(*command)[:2] == (0, "enrolled 2 of 2 photos (2 of them before)\n")
    assert {name: len(numbers) for name, numbers in photos_of(call).items()} == {"Anna": 2}


def test_imports_know_whom_a_task_has_renamed(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    (home / "people" / "Ann").mkdir(parents=True)
    for name in ("a", "same"):
        shutil.copy(photos[name], home / "people" / "Ann")
    assert call("import", str(home / "people"), *TINY)[0] == 0
    old, new = home / "XDG_CONFIG_HOME" / "hybridface" / "gallery.key", home / "safe" / "new.key"
    new.parent.mkdir()
    create_key(new)
    tasks = [
        GalleryTask(Verb.RENAME, "Ann", name="Bea"),
        GalleryTask(Verb.ROTATE, key=str(new)),
        GalleryTask(Verb.RENAME, "Bea", name="Anna"),
    ]
    write_tasks(home / "tasks.jsonl", tasks)
    server = ["server", "--gallery", gallery_of(home)]
    ranks = [["client", "--tasks", home / "tasks.jsonl", "--key", old], server]
    programs = [[sys.executable, "-P", "-m", "hybridface", "party", *map(str, one), *FILE] for one in ranks]
    with ranks_in_threads():
        status, out, errors = Ranks.of(programs).end()
    assert (status, errors) == (0, "")
    assert out.splitlines()[-1] == "'Bea' is 'Anna' now"
    (home / "people" / "Ann").rename(home / "people" / "Anna")
    out = call("import", str(home / "people"), *TINY, "--key", str(new))[1]
    assert out == "enrolled 2 of 2 photos (2 of them before)\n"


@KINDS
def test_nobody_is_renamed_while_an_import_runs(
    call: Callable[..., Done], photos: dict[str, str], home: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("enroll", "--kind", kind, "--id", "Ann", photos["a"], *TINY)[0] == 0
    key = home / "XDG_CONFIG_HOME" / "hybridface"
    beside = gallery_of(home).parent if kind == "list" else key
    with held(beside, header_of(gallery_of(home)).scope):
        monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.1)
        status, out, errors = call("rename", "Ann", "Anna", *SESSION)
        assert (status, out) == (2, "")
        assert "expected the lock of the record of imports within 0.1 s: another import" in errors
    assert photos_of(call) == {"Ann": [1]}
    assert call("rename", "Ann", "Anna", *SESSION)[0] == 0


def test_no_key_is_changed_while_an_import_runs(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("enroll", "--id", "Ann", photos["a"], *TINY)[0] == 0
    new = home / "new.key"
    with held(home / "XDG_CONFIG_HOME" / "hybridface", header_of(gallery_of(home)).scope):
        monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.1)
        status, out, errors = call("rotate-key", str(new), *SESSION)
        assert (status, out) == (2, "")
        assert "another import or renaming in this gallery uses it; try again later" in errors
        assert "keep both" not in errors
    assert not new.exists(), "nothing uses it"
    assert call("rotate-key", str(new), *SESSION)[0] == 0


def test_photos_that_are_enrolled_during_a_renaming_stay_whole(tmp_path: Path, photos: dict[str, str]) -> None:
    model = load_model("tiny-test")
    share = ClearEmbedding(model)(photos["a"], True)
    with GalleryFile(tmp_path / "list.db", model, GalleryKind.LIST) as file:
        (row,) = file.enroll_together("Ann", [share])
        ImportJournal(tmp_path, file.store.scope, {row: "Ann"}).add("Ann", row, bytes(32))
        log = file.limits.log

        def meanwhile(*arguments: Any) -> None:
            log(*arguments)
            file.store.enroll("Ann", share)

        file.limits.log = meanwhile  # type: ignore[method-assign]
        file.rename("Ann", "Anna")
        assert file.identities() == {"Anna": 2}
        enrolled = {entry.row: entry.identity for entry in file.store.listing(0)[-1]}
        assert ImportJournal(tmp_path, file.store.scope, enrolled).owners(bytes(32)) == {"Anna"}


def test_the_record_follows_also_when_old_bytes_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held_by_a_reader(_: GalleryStore) -> None:
        raise StoreError("a reader still holds the old bytes")

    with GalleryFile(tmp_path / "list.db", load_model("tiny-test"), GalleryKind.LIST) as file:
        (row,) = file.enroll_together("Ann", [np.zeros(file.store.dimension, dtype=np.uint64)])
        ImportJournal(tmp_path, file.store.scope, {row: "Ann"}).add("Ann", row, bytes(32))
        monkeypatch.setattr(GalleryStore, "erase", held_by_a_reader)
        with pytest.raises(TracesLeftError):
            file.rename("Ann", "Anna")
        enrolled = {entry.row: entry.identity for entry in file.store.listing(0)[-1]}
        assert ImportJournal(tmp_path, file.store.scope, enrolled).owners(bytes(32)) == {"Anna"}


def old_gallery(home: Path, photos: dict[str, str], *names: str) -> None:
    """Make a list as older versions did, with names as they came."""
    model = load_model("tiny-test")
    share = ClearEmbedding(model)(photos["a"], True)
    with GalleryFile(gallery_of(home), model, GalleryKind.LIST) as file:
        for name in names:
            file.store.enroll(name, share)


def test_old_names_are_told_and_brought_to_the_form(
    call: Callable[..., Done], photos: dict[str, str], home: Path
) -> None:
    old_gallery(home, photos, "Ann", "Zoe\u0308", " bob", "e\u0301ve", "éve", "a\u200bb")
    assert call("verify", "--id", " bob", photos["a"], *TINY)[0] == 0, "they work as before"
    status, out, _ = call("check-names", *SESSION)
    assert status == 1
    assert out.splitlines() == [
        "' bob': it begins or ends with white space; --fix makes it bob",
        "'Zoe\\u0308': it is not in the normal form NFC; --fix makes it Zoë",
        "'a\\u200bb': character 2 is an invisible character, U+200B ZERO WIDTH SPACE; rename gives it another name",
        "'e\\u0301ve': it is not in the normal form NFC; without that it is '\\xe9ve'; rename gives it another name",
    ]
    status, out, _ = call("check-names", "--fix", *SESSION, "--json")
    assert status == 1
    assert json.loads(out)["renamed"] == [
        {"identity": " bob", "name": "bob"},
        {"identity": "Zoe\u0308", "name": "Zoë"},
    ]
    assert {one["name"] for one in json.loads(out)["odd"]} == {"a\u200bb", "e\u0301ve"}
    assert call("rename", "a\u200bb", "ab", *SESSION)[0] == 0
    assert call("rename", "e\u0301ve", "éve 2", *SESSION)[0] == 0
    assert call("check-names", *SESSION) == (0, "all names have the form of new names\n", "")
    assert photos_of(call).keys() == {"Ann", "Zoë", "bob", "éve", "éve 2", "ab"}
    assert call("verify", "--id", "Zoe\u0308", photos["a"], *TINY)[0] == 0


def test_old_names_of_a_private_gallery_need_its_key(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # an older version on both sides
        patch.setattr("parties.gallery.sessions.private_client.person_name", str)
        patch.setattr("parties.gallery.sessions.private_server.new_name", str)
        patch.setattr("parties.gallery.store.identities.person_name", str)
        for name, photo in (("Zoe\u0308", "a"), (" bob", "different")):
            assert call("enroll", "--id", name, photos[photo], *TINY)[0] == 0
    assert photos_of(call) == {" bob": [1], "Zoe\u0308": [1]}
    status, out, _ = call("check-names", "--fix", *SESSION)
    assert (status, out.splitlines()) == (0, ["' bob' is 'bob' now", "'Zoe\\u0308' is 'Zoë' now"])
    assert call("verify", "--id", "Zoë", photos["same"], *TINY)[0] == 0
    assert call("verify", "--id", "bob", photos["different"], *TINY)[0] == 0
    assert call("identify", photos["a"], *TINY)[:2] == (0, "Zoë\n")


def test_what_a_renaming_stores_is_uniform_and_numbers_are_new(tmp_path: Path) -> None:
    share = np.arange(8, dtype=np.uint64)
    with GalleryStore(tmp_path / "g", "m", 8, GalleryKind.PRIVATE) as store:
        first = store.enroll("Ann", share)
        store.enroll("Bob", share)
        store.remove("Bob")
        reserved = store.reserve_many(["Bob"])
        assert reserved[0].photo > first.photo, "no stream of a removed Bob comes back"
        store.commit_name([first], reserved, share[None] * 2)
        assert [(entry, part.tolist()) for entry, part in store.entries()] == [(reserved[0], (share * 3).tolist())]
        changes = store.changes_since(0)
        assert (changes.added.tolist(), changes.removed.tolist()) == ([reserved[0].row], [])
        with pytest.raises(StoreError, match="but they have changed"):
            store.commit_name([first], store.reserve_many(["Cy"]), share[None])
