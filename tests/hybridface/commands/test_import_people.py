"""`hybridface import` of a folder: what is enrolled, what is not and why, and going on after an interruption."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridface.commands import import_runs
from hybridface.commands.gallery_options import PhotoSettings
from hybridface.commands.import_runs import FolderSource, import_folder
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.import_journal import ImportJournal, held
from hybridface.models.model import load_model
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import header_of
from parties.machine.secret_file import SECRET_BYTES
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
    people = json.loads(call("list", *FILE, "--json")[1])["people"]
    found: dict[str, int] = {person["identity"]: person["photos"] for person in people}
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
    Image.open(photos["a"]).rotate(90).save(people / "small.png")
    assert call(*command)[:2] == (0, "enrolled 4 of 4 photos (3 of them before)\n")
    assert enrolled(call) == {"Ann": 2, "Bob": 1, "small": 1}
    for _ in range(2):
        assert call(*command)[:2] == (0, "enrolled 4 of 4 photos (4 of them before)\n")
    (people / "Ann" / "1.png").rename(people / "Ann" / "renamed.png")
    assert call(*command)[0] == 0, "a photo is known by its content"
    assert enrolled(call) == {"Ann": 2, "Bob": 1, "small": 1}


def test_the_record_is_the_importers_alone(call: Callable[..., Done], people: Path, home: Path) -> None:
    assert call("import", str(people), *TINY)[0] == 1
    own = home / "XDG_CONFIG_HOME" / "hybridface"
    record, secret = next(own.glob("*.imported")), next(own.glob("*.imported-key"))
    assert [path.stat().st_mode & 0o777 for path in (record, secret)] == [0o600, 0o600]
    assert len(secret.read_bytes()) == SECRET_BYTES
    assert not {"Ann", "Bob"} & set(record.read_text().split('"')), "names are the gallery's"
    assert not list((home / "XDG_DATA_HOME").rglob("*.imported*")), "nothing of a photo lies on the server's side"


def test_a_new_key_elsewhere_takes_the_record_along(call: Callable[..., Done], people: Path, home: Path) -> None:
    (people / "small.png").unlink()
    assert call("import", str(people), *TINY)[0] == 0
    new = home / "safe" / "new.key"
    new.parent.mkdir()
    assert call("rotate-key", str(new), *FILE, "--quiet")[0] == 0
    out = call("import", str(people), *TINY, "--key", str(new))[1]
    assert out == "enrolled 3 of 3 photos (3 of them before)\n"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["private", "list"])
def test_an_interrupted_import_goes_on(
    call: Callable[..., Done], people: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (people / "small.png").unlink()
    command = ["import", "--kind", kind, str(people), *TINY]
    add, calls = ImportJournal.add, iter(range(9))

    def interrupted(journal: ImportJournal, identity: str, row: int, digest: bytes) -> None:
        add(journal, identity, row, digest)
        if next(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ImportJournal, "add", interrupted)
        status, out, errors = call(*command)
    assert (status, out) == (130, "")
    assert "stopped after 2 of 3 photos; run the same command again to continue" in errors
    assert enrolled(call)["Ann"] == 2
    status, out, _ = call(*command)
    assert status == 0
    assert out.splitlines()[0] == "enrolled 3 of 3 photos (2 of them before)"
    found = enrolled(call)
    assert found["Ann"] == 2
    assert 1 <= found["Bob"] <= 2, "the photo in work may have been enrolled already"


def test_two_imports_at_once_enrol_each_photo_once(people: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PhotoSettings(home / "new.db", model="tiny-test", aligned=True, quiet=True)
    both, sort_out, made = threading.Barrier(2), import_runs.sort_out, []

    def slowly(*arguments: Any) -> Any:
        content = sort_out(*arguments)
        with suppress(threading.BrokenBarrierError):  # one alone waits in vain
            both.wait(2)
        return content

    monkeypatch.setattr(import_runs, "sort_out", slowly)
    imports = [
        threading.Thread(target=lambda: made.append(import_folder(settings, FolderSource(people), GalleryKind.LIST)))
        for _ in range(2)
    ]
    for one in imports:
        one.start()
    for one in imports:
        one.join()
    assert made == [False, False], "small.png is too small for both"
    with GalleryFile(settings.path, load_model("tiny-test", weights=False)) as file:
        assert file.identities() == {"Ann": 2, "Bob": 1}


@pytest.mark.parametrize("kind", ["private", "list"])
def test_an_import_that_waits_too_long_enrols_nothing(
    call: Callable[..., Done], people: Path, home: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["import", "--kind", kind, str(people), *TINY]
    gallery, key = (home / name / "hybridface" for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"))
    assert call("create-gallery", "--kind", kind, "--model", "tiny-test")[0] == 0
    with held(gallery if kind == "list" else key, header_of(gallery / "gallery.db").scope):
        monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.1)
        status, out, errors = call(*command)
        assert (status, out, errors.count("\n")) == (2, "", 1)
        assert "expected the lock of the record of imports within 0.1 s: another import or renaming" in errors
        assert call(*command, "--dry-run")[0] == 0, "it only looks"
    assert enrolled(call) == {}
    assert call(*command)[0] == 1


@pytest.mark.timeout(120)
def test_who_was_removed_meanwhile_is_enrolled_again(call: Callable[..., Done], people: Path) -> None:
    command = ["import", "--kind", "list", str(people), *TINY]
    assert call(*command)[0] == 1
    assert call("remove", "Ann", *FILE)[0] == 0
    status, out, _ = call(*command, "--json")
    assert (status, json.loads(out)["earlier"]) == (1, 1)
    assert enrolled(call) == {"Ann": 2, "Bob": 1}


def test_a_dry_run_does_nothing(call: Callable[..., Done], people: Path, home: Path) -> None:
    (people / "notes.txt").write_text("no photo")
    command = ["import", str(people), *TINY]
    before = sorted(home.rglob("*"))
    status, out, errors = call(*command, "--dry-run")
    assert (status, errors) == (0, "")
    assert out.splitlines() == [
        "would enrol 4 photos of 3 people",
        "Ann: 2 photos",
        "Bob: 1 photo",
        "small: 1 photo",
        f"not used: {people}/notes.txt: no photo",
    ]
    assert sorted(home.rglob("*")) == before
    assert call(*command)[0] == 1
    status, out, _ = call(*command, "--dry-run", "--json")
    found = json.loads(out)
    assert (status, found["dry_run"]) == (0, True)
    assert found["people"] == [
        {"identity": "Ann", "new": 0, "earlier": 2},
        {"identity": "Bob", "new": 0, "earlier": 1},
        {"identity": "small", "new": 1, "earlier": 0},
    ]
    assert enrolled(call) == {"Ann": 2, "Bob": 1}


@pytest.mark.parametrize("kind", ["private", "list"])
def test_the_record_of_an_older_version_goes_with_the_first_import(
    call: Callable[..., Done], people: Path, home: Path, kind: str
) -> None:
    gallery, key = home / "gallery.db", home / "gallery.key"
    name = hashlib.sha256(str(gallery.resolve()).encode()).hexdigest()[:16]
    beside = key if kind == "private" else gallery
    record = beside.with_name(f"{beside.name}.{name}.import")
    record.write_text("names, and hashes that need no secret")
    options = ["--key", str(key)] if kind == "private" else []
    command = ["import", "--kind", kind, str(people), *TINY, "--gallery", str(gallery), *options]
    assert call(*command, "--dry-run")[0] == 0
    assert record.exists()
    assert call(*command)[0] == 1
    assert not record.exists()


def test_every_file_is_accounted_for(call: Callable[..., Done], photos: dict[str, str], people: Path) -> None:
    (people / "small.png").unlink()
    shutil.copy(photos["a"], people / "Ann" / "copy of 1.jfif")  # the same content
    for name in ("._1.png", ".DS_Store", "Thumbs.db"):
        (people / "Ann" / name).write_bytes(b"Mac OS X")
    (people / "__MACOSX" / "Ann").mkdir(parents=True)
    (people / "__MACOSX" / "Ann" / "._2.png").write_bytes(b"Mac OS X")
    command = ["import", "--kind", "list", str(people), *TINY]
    status, out, _ = call(*command)
    assert status == 0, "a system's files are no bad photos"
    first, copy, system = out.splitlines()
    assert first == "enrolled 3 of 3 photos"
    assert copy == f"not used: {people}/Ann/copy of 1.jfif: the same photo as {people}/Ann/1.png"
    assert system.startswith("not used: 4 system or hidden files and folders, such as ")
    for sort in ("sales", "support"):
        (people / sort / "Cy").mkdir(parents=True)
        Image.open(photos["a"]).rotate(90 if sort == "sales" else 180).save(people / sort / "Cy" / "1.png")
    shutil.copy(photos["different"], people / "Ann" / "bob.png")  # of another person
    (people / "Dan").mkdir()
    (people / "Dan" / "a.heic").write_bytes(b"no photo at all")
    status, out, _ = call(*command, "--json")
    told = {one["file"]: (one["kind"], one["reason"]) for one in json.loads(out)["unused"]}
    assert status == 1
    for sort in ("sales", "support"):
        kind, reason = told[f"{people}/{sort}/Cy/1.png"]
        assert (kind, reason.partition(":")[0]) == ("fault", "'Cy' lies in 'sales/Cy' and 'support/Cy'")
    assert told[f"{people}/Ann/bob.png"] == ("fault", f"the same photo as {people}/Bob.png, of 'Bob'")
    (failed,) = json.loads(out)["not_enrolled"]
    assert failed["photo"] == f"{people}/Dan/a.heic", "whoever reads it says that it is no photo"
    assert failed["reason"]
    assert json.loads(out)["enrolled"] == []
    assert enrolled(call) == {"Ann": 2, "Bob": 1}


def test_names_of_files_cannot_steer_a_terminal(
    call: Callable[..., Done], photos: dict[str, str], people: Path
) -> None:
    evil = "x\x1b[31m\nenrolled EVIL.png"
    (people / "small.png").unlink()
    shutil.copy(photos["a"], people / "Ann" / evil)  # the same as 1.png
    shutil.copy(photos["different"], people / "Ann" / f"2{evil}")  # the same as Bob.png
    (people / "Ann" / f"3{evil}").write_bytes(b"no photo")
    command = ["import", "--kind", "list", str(people), *TINY]
    for more in ("--dry-run", "--quiet"):
        status, out, errors = call(*command, more)
        assert status == 1
        assert "\x1b" not in out + errors
        assert not [line for line in out.splitlines() if line.startswith("enrolled EVIL")]
        assert "of 'Ann'" in out
    documents = [json.loads(call(*command, more, "--json")[1]) for more in ("--dry-run", "--quiet")]
    for document in documents:
        assert f"{people}/Ann/2{evil}" in [one["file"] for one in document["unused"]], "a program gets the name"
        assert all(one["reason"].isprintable() for one in document["unused"])


def test_a_photo_of_somebody_else_is_told(call: Callable[..., Done], photos: dict[str, str], people: Path) -> None:
    command = ["import", "--kind", "list", str(people), *TINY]
    call(*command)
    (people / "Bob.png").rename(people / "Rob.png")
    out = call(*command)[1]
    assert f"not enrolled: {people}/Rob.png: the same photo is enrolled as 'Bob'" in out.splitlines()
    Image.open(photos["a"]).rotate(90).save(people / "Ann" / "3.png")
    assert "note: more photos of people who are enrolled: 'Ann'" in call(*command)[1].splitlines()


def test_names_from_a_list(call: Callable[..., Done], people: Path, home: Path) -> None:
    names = people / "names.csv"
    names.write_text("\ufeffphoto,identity,note\nAnn/1.png,Zoe\u0308,x\nBob.png,Zoë,\n", encoding="utf-8")
    command = ["import", "--kind", "list", str(people), *TINY, "--identity-from", "csv", "--names", str(names)]
    status, out, _ = call(*command)
    assert status == 0
    assert out.splitlines()[0] == "enrolled 2 of 2 photos"
    assert f"not used: {people}/Ann/2.png: not in names.csv" in out.splitlines()
    assert enrolled(call) == {"Zoë": 2}, "a list may say that two places are one person's"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--identity-from", "csv"], "expected --names (a CSV file) and --identity-from csv together"),
        (["--names", "x.csv"], "expected --names (a CSV file) and --identity-from csv together"),
        (["--identity-from", "csv", "--names", "none.csv"], "none.csv: expected a CSV file of at most 256 MB"),
    ],
)
def test_rules_that_are_none(call: Callable[..., Done], people: Path, options: list[str], said: str) -> None:
    status, out, errors = call("import", str(people), *TINY, *options)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert said in errors


@pytest.mark.parametrize(
    "option", [["--dry-run"], ["--identity-from", "folder"], ["--timeout", "300"], ["--aligned"], ["--key", "k"]]
)
def test_options_about_folders_are_refused_for_an_exported_file(
    call: Callable[..., Done], home: Path, option: list[str]
) -> None:
    (home / "gallery.jsonl").write_text("")
    status, _, errors = call("import", str(home / "gallery.jsonl"), *option)
    why = "for gallery.jsonl, which is an exported file: it would do nothing"
    assert (status, errors) == (2, f"hybridface: expected no {option[0]} {why}\n")
