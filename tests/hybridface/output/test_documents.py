"""JSON for programs: one object, in a shape that the schema has, and errors as well."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hybridface.commands import gallery_runs
from hybridface.commands.main import app
from hybridface.errors import ImageError
from hybridface.output import documents
from hybridface.output.documents import error_document, identification_document, verification_document, with_plain_keys
from hybridface.remote.known import pin
from parties.gallery.errors import KeyFileError, QueryRefusedError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import GalleryStore
from support.paths import ROOT
from support.ranks import Done

SCHEMA = json.loads((Path(documents.__file__).parent / "answers.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)
TINY = ["--model", "tiny-test", "--aligned"]


def checked(out: str) -> Any:
    """Return the one object that was printed, which the schema has."""
    assert out.count("\n") == 1
    document = json.loads(out)
    CHECK.validate(document)
    return document


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the gallery and the key are."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        CHECK.validate({"match": True})


def test_the_documented_objects_are_in_the_schema() -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "JSON.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        CHECK.validate(json.loads(block))


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs" / "JSON.md").read_text()
    names = {one.name for one in app.registered_commands if one.name} - {"demo", "party", "serve"}  # without --json
    assert not {name for name in names if f"`{name}`" not in text and f"| `{name} " not in text}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_life_of_a_gallery(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    """Every command about galleries, one after another, in a private gallery."""

    def run(*arguments: str, status: int = 0) -> Any:
        done, out, errors = call(*arguments, "--json")
        assert (done, errors) == (status, ""), arguments
        return checked(out)

    model = TINY[:2]
    assert run("create-key")["key"].endswith("gallery.key")
    assert run("create-gallery", *model)["kind"] == "private"
    name = "Ann B."
    assert run("enroll", "--id", name, photos["a"], *TINY) == {"enrolled": [{"identity": name, "photo": photos["a"]}]}
    assert run("list", *model) == {"people": [{"identity": name, "photos": 1}]}
    found = run("verify", "--id", name, photos["same"], *TINY)
    assert found == {"match": True, "identity": name, "model": "tiny-test", "mode": "hybrid", "reveal": "client"}
    assert run("verify", "--id", name, photos["different"], *TINY, status=1)["match"] is False
    assert run("identify", photos["same"], "--top", "2", *TINY)["identities"] == [name]
    assert run("identify", photos["different"], "--top", "2", *TINY, status=1)["identities"] == []
    assert run("rotate-key", str(home / "new.key"), *model) == {"generation": 2}
    assert [line["operation"] for line in run("queries", "--id", name)["queries"]][:1] == ["enroll"]
    assert run("export", str(home / "out.jsonl"), *model) == {"exported": 1}
    other = ["--gallery", str(home / "other.db")]
    assert run("import", str(home / "out.jsonl"), *other, *model) == {"enrolled": 1}
    renamed = run("rename", name, "Ann C.", *model, "--key", str(home / "new.key"))
    assert renamed == {"identity": name, "name": "Ann C."}
    name = "Ann C."
    assert run("check-names", *model) == {"renamed": [], "odd": []}
    assert run("list", *model, "--photos") == {"people": [{"identity": name, "photos": 1, "numbers": [1]}]}
    delivered = {"client": None, "at_once": 20, "per_hour": 4, "set": False}
    limits = [{**delivered, "question": question} for question in ("guess", "identify", "verify")]
    assert run("limits") == {"limits": limits}
    own = {"client": "door", "question": "verify", "at_once": 50, "per_hour": 0.5, "set": True}
    assert run("limits", "--client", "door", "--verify", "50/0.5") == {"limits": [*limits[:2], own]}
    assert run("limits") == {"limits": [*limits, own]}
    assert run("reset-limit", "client") == {"client": "client", "about": None}
    assert run("prune-log", "2001-01-01")["removed"] == 0
    assert run("remove", name, "nobody", *model, status=1) == {"removed": 1, "not_enrolled": ["nobody"]}


def test_both_sides_of_a_service(call: Callable[..., Done], home: Path) -> None:
    """Every command that sets up a server or a client."""

    def run(*arguments: str) -> Any:
        done, out, errors = call(*arguments, "--json")
        assert (done, errors) == (0, ""), arguments
        return checked(out)

    folder = str(home / "server")
    own, client = run("server", "init", folder, "--name", "match"), run("client", "init")["fingerprint"]
    assert run("server", "init", f"{folder}2", "--request").keys() == {"request", "settings"}
    assert run("client", "init", "--identity", f"{folder}3", "--request").keys() == {"request"}
    allowed = run("server", "allow", folder, "bank", client)
    assert run("server", "clients", folder) == {"clients": [allowed]}
    assert run("server", "check", folder)["clients"] == 1
    assert run("server", "deny", folder, "bank") == {"denied": "bank"}
    assert run("server", "renew", folder)["fingerprint"] == own["fingerprint"]
    added = run("client", "add", "match.example.org", own["fingerprint"])
    assert run("client", "servers") == {"servers": [added]}
    pin(home / "hybridface", "match.example.org", "tiny-test", "0" * 64)
    assert run("client", "trust", "match.example.org", "--model", "tiny-test")["accepted"] == "tiny-test"
    assert run("client", "forget", "match.example.org") == {"forgotten": "match.example.org"}
    assert run("client", "renew")["fingerprint"] == client
    status, out, _ = call("client", "forget", "nobody", "--json")
    assert (status, checked(out)["error"]["kind"]) == (2, "configuration")


def test_a_folder_and_old_names(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "people"
    folder.mkdir()
    shutil.copy(photos["a"], folder / "Ann.png")
    (folder / "Bob.png").write_text("no photo")
    (folder / "notes.txt").write_text("no photo")
    command = ["import", "--kind", "list", str(folder), *TINY, "--json"]
    unused = [{"file": f"{folder}/notes.txt", "kind": "other", "reason": "no photo"}]
    people = [{"identity": name, "new": 1, "earlier": 0} for name in ("Ann", "Bob")]
    status, out, _ = call(*command, "--dry-run")
    assert (status, checked(out)) == (0, {"dry_run": True, "people": people, "unused": unused, "notes": []})
    status, out, _ = call(*command)
    done = checked(out)
    (failed,) = done.pop("not_enrolled")
    assert (status, failed["photo"]) == (1, f"{folder}/Bob.png")
    enrolled = [{"identity": "Ann", "photo": f"{folder}/Ann.png"}]
    assert done == {"enrolled": enrolled, "earlier": 0, "unused": unused, "notes": []}
    status, out, errors = call("rename", "Bob", "Cy", *TINY[:2], "--json")
    assert (status, checked(out)["error"]["kind"], errors.count("\n")) == (2, "query_refused", 1)
    with monkeypatch.context() as patch:  # an older version
        patch.setattr("parties.gallery.store.identities.person_name", str)
        patch.setattr("hybridface.galleries.file.person_name", str)
        for name in (" Bob", "a\u200bb"):
            assert call("enroll", "--id", name, photos["a"], *TINY)[0] == 0
    status, out, _ = call("check-names", "--fix", *TINY[:2], "--json")
    names = checked(out)
    assert (status, names["renamed"]) == (1, [{"identity": " Bob", "name": "Bob"}])
    assert [(one["name"], one["becomes"]) for one in names["odd"]] == [("a\u200bb", None)]


def test_an_answer_is_short_and_costs_are_extra(call: Callable[..., Done], photos: dict[str, str]) -> None:
    status, out, errors = call("verify", photos["a"], photos["same"], *TINY, "--json")
    assert (status, errors, len(out) < 200) == (0, "", True)
    short = checked(out)
    status, out, _ = call("verify", photos["a"], photos["same"], *TINY, "--json", "--costs")
    long = checked(out)
    assert long.pop("costs")["stages"]
    assert long == short


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["verify"], "usage"),
        (["verify", "a.jpg", "b.jpg", "--nothing"], "usage"),
        (["nothing"], "usage"),
        (["bench", "verify", "--runs", "none"], "usage"),
        (["verify", "a.jpg"], "parameter"),
        (["verify", "a.jpg", "b.jpg"], "image"),
        (["verify", "a.jpg", "--id", "x", "--costs"], "image"),
        (["identify", "a.jpg"], "image"),
        (["list"], "parameter"),
        (["queries"], "parameter"),
        (["create-key", "--key", "/dev/null"], "key_file"),
        (["list", "--gallery", "x" * 300], "system"),
        (["bench", "verify", "--model", "no"], "model"),
        (["plan", "no"], "model"),
        (["eval", "lfw", "--images", "missing"], "usage"),
        (["train", "--images", "missing"], "usage"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else value,
)
def test_an_error_is_an_object(call: Callable[..., Done], home: Path, arguments: list[str], kind: str) -> None:
    status, out, errors = call(*arguments, "--json")
    error = checked(out)["error"]
    assert (status, error["kind"]) == (2, kind)
    assert errors, "people are told as ever"
    status, out, again = call(*arguments)
    assert (status, out, again) == (2, "", errors)


def test_a_query_too_many_says_when_to_ask_again(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GalleryStore(home / "gallery.db", "0" * 64, 8, GalleryKind.LIST):
        pass
    refusal = {"refused": "the server refuses: too many", "retry_after": 12.5}
    monkeypatch.setattr(gallery_runs, "run_queries", lambda *_, **__: type("Said", (), {"answers": [refusal]}))
    status, out, errors = call("identify", photos["a"], "--gallery", str(home / "gallery.db"), *TINY, "--json")
    expected = {"kind": "query_refused", "message": "the server refuses: too many", "retry_after_seconds": 12.5}
    assert (status, checked(out)["error"], errors) == (2, expected, "hybridface: the server refuses: too many\n")


def test_kinds_of_errors() -> None:
    errors = ImageError("x"), KeyFileError("x"), OSError(errno.ENOSPC, "No space left"), OSError("x"), ValueError("x")
    kinds = [error_document(error)["error"]["kind"] for error in errors]
    assert kinds == ["image", "key_file", "system", "internal", "internal"]
    assert error_document(QueryRefusedError("no\nmore"))["error"]["message"] == "the server refuses: no more"
    assert error_document("two\n lines", "usage") == {"error": {"kind": "usage", "message": "two lines"}}


def test_what_is_called_internal_is_told_as_internal() -> None:
    errors = (
        OSError(errno.EACCES, "Permission denied", "gallery.db"),
        PermissionError("x"),
        TimeoutError(),
        KeyError("x"),
    )
    for error in errors:
        said = error_document(error)["error"]
        assert (said["kind"] == "internal") is said["message"].startswith("internal error"), said


def test_the_schema_and_the_documents_name_the_same_kinds() -> None:
    table = (ROOT / "docs" / "JSON.md").read_text().partition("| kind | what |")[2].partition("\n\n")[0]
    documented = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.partition(" | ")[0])]
    error = SCHEMA["$defs"]["error"]["properties"]["error"]["properties"]
    assert error["kind"]["examples"] == documented


def test_nobody_is_an_empty_list() -> None:
    assert identification_document([None, None], "m", "both")["identities"] == []
    assert identification_document(["a", None], "m", "both")["identities"] == ["a"]


def test_what_ranks_say_beside_the_answer_is_left_out() -> None:
    said = {"event": "answer", "match": None, "matches": [None], "cost": {}, "model": "m", "mode": "hybrid"}
    assert verification_document(said, True) == {"match": True, "model": "m", "mode": "hybrid"}


def test_keys_without_spaces() -> None:
    given = {"online MB, both ways": [{"a b": (1, {"c d": "e f"})}], "dlib-resnet29": 1}
    assert with_plain_keys(given) == {"online_MB_both_ways": [{"a_b": [1, {"c_d": "e f"}]}], "dlib-resnet29": 1}
