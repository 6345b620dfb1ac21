"""Galleries on the command line: the verbs in order, exit statuses, and what is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridface.commands import gallery_runs
from hybridface.commands.places import check_writable, weights_cache
from hybridface.errors import RunError
from hybridface.galleries.file import GalleryFile
from hybridface.models.model import load_model
from hybridface.processes.start import Outcome
from parties.gallery.key import create_key, read_key
from parties.gallery.kind import GalleryKind
from protocols.errors import ParameterError
from support.portraits import portrait, two_people
from support.ranks import Done

TINY = ["--model", "tiny-test", "--aligned", "--quiet"]


@pytest.mark.timeout(20)
def test_a_pipe_that_nobody_reads_is_no_file_to_write_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ParameterError, match="expected a file to write to, got .*/pipe: No such device or address"):
        check_writable(tmp_path / "pipe")
    check_writable(tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b""


@pytest.mark.slow
def test_the_verbs(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    status, out, errors = call("enroll", "--id", "Ann B.", photos["a"], *TINY)
    assert (status, out) == (0, "enrolled 1 photo of 'Ann B.'\n")
    assert "made a new key" in errors
    key = home / "XDG_CONFIG_HOME" / "hybridface" / "gallery.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert call("enroll", "--id", "名前", photos["different"], *TINY) == (0, "enrolled 1 photo of '名前'\n", "")

    assert call("list", "--model", "tiny-test", "--json")[1:] == (
        json.dumps({"people": [{"identity": "Ann B.", "photos": 1}, {"identity": "名前", "photos": 1}]}) + "\n",
        "",
    )
    assert call("verify", "--id", "Ann B.", photos["same"], *TINY)[:2] == (0, "same person\n")
    strict = [*TINY, "--threshold", "0.001"]
    assert call("verify", "--id", "Ann B.", photos["same"], *strict)[:2] == (1, "different people\n")
    assert call("identify", photos["same"], *strict)[:2] == (1, "unknown\n")
    status, out, _ = call("identify", photos["different"], "--top", "2", "--json", *TINY)
    assert (status, json.loads(out)["identities"][0]) == (0, "名前")

    new = home / "new.key"
    status, out, errors = call("rotate-key", str(new), "--model", "tiny-test", "--quiet")
    assert (status, errors) == (0, "")
    assert "generation 2" in out
    assert call("verify", "--id", "Ann B.", photos["same"], "--key", str(new), *TINY)[0] == 0
    assert call("verify", "--id", "Ann B.", photos["same"], *TINY)[0] == 2, "the old key opens nothing"

    assert call("remove", "名前", "nobody", "--model", "tiny-test") == (
        1,
        "removed 1 photo\nnot enrolled: 'nobody'\n",
        "",
    )
    assert call("identify", photos["different"], "--key", str(new), *TINY)[:2] == (1, "unknown\n")
    exported = home / "gallery.npz"
    assert call("export", str(exported), "--model", "tiny-test")[0] == 0
    other = ["--gallery", str(home / "other.db")]
    assert call("import", str(exported), *other, "--model", "tiny-test")[:2] == (0, "imported 1 photo\n")
    assert call("enroll", "--id", "[/x]", photos["different"], *other, "--key", str(new), *TINY)[0] == 0
    assert "[/x]" in call("list", *other, "--model", "tiny-test")[1]
    assert call("identify", photos["same"], *other, "--key", str(new), *TINY)[:2] == (0, "Ann B.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("identify", "a", *TINY), "enrol somebody first"),
        (("list",), "enrol somebody first"),
        (("enroll", "--id", "Ann", "nothing.png", *TINY), "expected a photo, found no such file"),
        (("verify", "a"), "expected a second photo, or the --id of somebody in the gallery"),
        (("verify", "a", "same", "--id", "Ann"), "expected a second photo, or the --id of somebody in the gallery"),
        (("verify", "a", "--id", "Ann", "--mode", "pure-he"), "expected --mode hybrid for a gallery"),
        (("verify", "a", "--id", "Ann", "--enrolled"), "expected no --enrolled with --id"),
        (("verify", "a", "--id", "Ann", "--layers"), "expected no --layers with --id"),
        (("verify", "a", "--id", "Ann", "--workers", "1"), "expected no --workers with --id"),
        (("enroll", "--id", " Ann", "a", *TINY), "expected a name of visible characters, got ' Ann'"),
        (("import", "nothing"), "expected a folder of photos, or an exported file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_refused(
    call: Callable[..., Done], photos: dict[str, str], home: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, out, errors = call(*(photos.get(word, word) for word in arguments))
    assert (status, out) == (2, "")
    assert errors.count("\n") == 1
    assert message in errors


def test_a_change_of_key_that_is_refused_leaves_no_file(
    call: Callable[..., Done], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = create_key(home / "old.key"), home / "new.key"
    GalleryFile(home / "gallery.db", load_model("tiny-test", weights=False), GalleryKind.PRIVATE).close()
    refused = Outcome(answers=[{"verb": "rotate-key", "identity": None, "refused": "the server refuses: busy"}])
    monkeypatch.setattr(gallery_runs, "start", lambda *_: refused)
    gallery = ["--gallery", str(home / "gallery.db"), "--key", str(home / "old.key"), "--model", "tiny-test"]
    for _ in range(2):
        assert call("rotate-key", str(new), *gallery, "--quiet") == (2, "", "hybridface: the server refuses: busy\n")
        assert not new.exists()
    assert read_key(home / "old.key") == old


def test_a_new_key_is_for_its_owner_alone(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"verb": "enroll", "identity": "Ann", "photo": "a.png"}
    monkeypatch.setattr(gallery_runs, "start", lambda *_: Outcome(answers=[answer]))
    usual = os.umask(0o022)
    try:
        assert call("enroll", "--id", "Ann", photos["a"], *TINY)[0] == 0
    finally:
        os.umask(usual)
    key = home / "XDG_CONFIG_HOME" / "hybridface" / "gallery.key"
    assert [path.stat().st_mode & 0o777 for path in (key.parent, key)] == [0o700, 0o600]


def test_a_change_of_key_without_the_old_one_makes_none(call: Callable[..., Done], home: Path) -> None:
    gallery = ["--gallery", str(home / "gallery.db"), "--model", "tiny-test"]
    GalleryFile(home / "gallery.db", load_model("tiny-test", weights=False), GalleryKind.PRIVATE).close()
    status, out, errors = call("rotate-key", str(home / "new.key"), *gallery, "--key", str(home / "no.key"))
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert "no.key" in errors
    assert not (home / "new.key").exists(), "it would lie in the way of the next try"


def test_a_change_of_key_that_fails(call: Callable[..., Done], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = create_key(home / "old.key"), home / "new.key"
    gallery = ["--gallery", str(home / "gallery.db"), "--key", str(home / "old.key"), "--model", "tiny-test"]
    GalleryFile(home / "gallery.db", load_model("tiny-test", weights=False), GalleryKind.PRIVATE).close()

    def fail(*_: object) -> None:
        raise RunError("server: killed")

    monkeypatch.setattr("hybridface.commands.gallery_runs.run_queries", fail)
    status, _, errors = call("rotate-key", str(new), *gallery)
    assert status == 2
    assert "server: killed; keep both key files, " in errors
    assert read_key(home / "old.key") == old != read_key(new)


@pytest.mark.slow
def test_a_refusal_is_an_error(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    call("enroll", "--id", "Ann", photos["a"], *TINY)
    status, out, errors = call("verify", "--id", "nobody", photos["a"], *TINY)
    assert (status, out) == (2, "")
    assert "the server refuses: expected an enrolled identity, found none of that name" in errors
    for command in (("identify",), ("enroll", "--id", "Bob"), ("verify", "--id", "Ann")):
        status, _, errors = call(*command, photos["a"], *TINY, "--key", str(home / "no.key"))
        assert status == 2
        assert "no.key; another key finds nobody" in errors
    status, _, errors = call("identify", photos["a"], *TINY, "--key", photos["a"])
    assert status == 2
    assert "expected a key file of 32 bytes" in errors
    assert read_key(home / "XDG_CONFIG_HOME" / "hybridface" / "gallery.key").secret


def test_without_a_home_that_can_be_written_there_is_no_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert weights_cache(str(place)) is None
        assert capsys.readouterr().err == (
            f"hybridface: no cache in {place}: Not a directory; pass --cache with another folder or none\n"
        )
    assert weights_cache(str(tmp_path / "new")) == tmp_path / "new"
    assert weights_cache("none") is None
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", list(GalleryKind))
def test_a_face_is_chosen_in_every_photo(call: Callable[..., Done], home: Path, kind: GalleryKind) -> None:
    folder = home / "people"
    folder.mkdir()
    both, one = folder / "both.png", home / "one.png"
    two_people().save(both)
    portrait(2).save(one)
    model = ["--model", "tiny-test", "--quiet"]
    assert call("enroll", "--kind", kind, "--id", "Ann", str(one), *model)[0] == 0
    for command in (["enroll", "--id", "Bob", both], ["verify", "--id", "Ann", both], ["identify", both]):
        status, _, errors = call(*map(str, command), *model)
        assert (status, "expected one face, found 2" in errors) == (2, True), command
        assert call(*map(str, command), *model, "--face", "largest")[0] < 2, command
    assert call("import", str(folder), *model)[0] == 1
    assert call("import", str(folder), *model, "--face", "largest")[0] == 0
