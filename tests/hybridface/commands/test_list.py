"""A server's list on the command line: who learns what, the log, and what is refused."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridface.commands import gallery_runs
from hybridface.galleries.tasks import GalleryTask, Verb, together, write_tasks
from hybridface.output.answers import answer_text
from hybridface.processes.events import Events
from hybridface.processes.gallery import _Outcomes
from hybridface.processes.start import Outcome
from parties.gallery.errors import StoreError
from parties.gallery.key import create_key
from parties.gallery.kind import GalleryKind
from parties.gallery.store.database import Database
from parties.gallery.store.limits import OPERATOR
from parties.gallery.store.store import header_of
from parties.gallery.store.tables import Tables
from parties.transport.roles import Role
from protocols.matching.reveal import Reveal
from support.rank_programs import PARTY
from support.ranks import Done, Ranks, ranks_in_threads

TINY = ["--model", "tiny-test", "--aligned", "--quiet"]
FILE = ["--model", "tiny-test"]


@pytest.fixture
def tiny_list(call: Callable[..., Done], photos: dict[str, str], home: Path) -> Path:
    """A list of Ann and Bob."""
    for name, photo in (("Ann", "a"), ("Bob", "different")):
        assert call("enroll", "--kind", "list", "--id", name, photos[photo], *TINY)[0] == 0
    return home / "XDG_DATA_HOME" / "hybridface" / "gallery.db"


@pytest.mark.slow
def test_a_list_that_another_process_makes_meanwhile_is_used(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, others = gallery_runs.ClearEmbedding.__call__, iter(["Bob"])

    def meanwhile(*arguments: Any) -> Any:
        for other in others:
            assert call("enroll", "--kind", "list", "--id", other, photos["different"], *TINY)[0] == 0
        return load(*arguments)

    monkeypatch.setattr(gallery_runs.ClearEmbedding, "__call__", meanwhile)
    assert call("enroll", "--kind", "list", "--id", "Ann", photos["a"], *TINY)[0] == 0
    people = json.loads(call("list", *FILE, "--json")[1])["people"]
    assert [person["identity"] for person in people] == ["Ann", "Bob"]


@pytest.mark.slow
def test_a_key_that_another_process_makes_meanwhile_is_used(
    call: Callable[..., Done], photos: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(path: Path) -> None:
        create_key(path)
        create_key(path)

    monkeypatch.setattr(gallery_runs, "create_key", meanwhile)
    assert call("enroll", "--id", "Ann", photos["a"], *TINY) == (0, "enrolled 1 photo of 'Ann'\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(GalleryKind))
def test_photos_of_one_person_are_all_enrolled_or_none(
    call: Callable[..., Done], photos: dict[str, str], home: Path, kind: GalleryKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["enroll", "--kind", kind, "--id", "Ann", photos["a"], photos["same"], *TINY]
    assert call(*command[:-5], *TINY)[:2] == (0, "enrolled 1 photo of 'Ann'\n")
    put, calls = Tables.put_share, iter(range(9))

    def full(self: Any, *arguments: Any) -> None:
        if next(calls) == 1:
            raise StoreError("database or disk is full")
        put(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "put_share", full)
        status, out, errors = call(*command)
    assert (status, out) == (2, "")
    assert "disk is full" in errors
    (home / "nothing.png").write_bytes(b"")
    assert call(*command, str(home / "nothing.png"))[0] == 2
    assert json.loads(call("list", *FILE, "--json")[1]) == {"people": [{"identity": "Ann", "photos": 1}]}
    assert call(*command)[:2] == (0, "enrolled 2 photos of 'Ann'\n")
    assert json.loads(call("list", *FILE, "--json")[1]) == {"people": [{"identity": "Ann", "photos": 3}]}


def test_photos_of_one_person_are_one_task() -> None:
    names = [("Ann", False), ("Ann", False), ("Bob", False), ("Ann", False), ("Ann", True), ("Ann", True)]
    tasks = [GalleryTask(Verb.ENROLL, name, str(i), optional=optional) for i, (name, optional) in enumerate(names)]
    tasks += [GalleryTask(Verb.VERIFY, "Ann", "6"), GalleryTask(Verb.VERIFY, "Ann", "7")]
    assert [[task.photo for task in group] for group in together(tasks)] == [
        ["0", "1"], ["2"], ["3"], ["4"], ["5"], ["6"], ["7"]
    ]  # fmt: skip


@pytest.mark.slow
def test_a_name_is_one_however_it_is_typed(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    typed, formed = "Zoe\u0308", "Zoë"
    assert call("enroll", "--kind", "list", "--id", typed, photos["a"], *TINY)[1] == f"enrolled 1 photo of {formed!r}\n"
    assert call("enroll", "--id", formed, photos["same"], *TINY)[0] == 0
    assert json.loads(call("list", *FILE, "--json")[1]) == {"people": [{"identity": formed, "photos": 2}]}
    assert call("verify", "--id", typed, photos["a"], *TINY)[:2] == (0, "same person\n")
    for identity, said in ((" alice", "white space"), (" ", "white space alone"), ("a\u200bb", "U+200B")):
        status, out, errors = call("enroll", "--id", identity, photos["a"], *TINY)
        assert (status, out, errors.count("\n")) == (2, "", 1)
        assert said in errors
    status, out, _ = call("queries", "--id", typed, "--only", "--json")
    assert [line["operation"] for line in json.loads(out)["queries"]] == ["enroll", "enroll", "verify"]
    assert call("remove", typed, *FILE)[:2] == (0, "removed 2 photos\n")


@pytest.mark.slow
def test_the_verbs(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    assert call("enroll", "--kind", "list", "--id", "Person A", photos["a"], *TINY) == (
        0,
        "enrolled 1 photo of 'Person A'\n",
        "",
    )
    assert call("enroll", "--id", "名前", photos["different"], *TINY)[:2] == (0, "enrolled 1 photo of '名前'\n")
    gallery = home / "XDG_DATA_HOME" / "hybridface" / "gallery.db"
    assert header_of(gallery).kind is GalleryKind.LIST
    assert not (home / "XDG_CONFIG_HOME").exists(), "a list has no key"
    assert call("verify", "--id", "Person A", photos["same"], *TINY) == (0, "same person\n", "")
    status, out, _ = call("verify", "--id", "Person A", photos["different"], *TINY, "--json", "--reveal", "both")
    assert (status, json.loads(out)["match"], json.loads(out)["identity"]) == (1, False, "Person A")
    assert call("identify", photos["different"], *TINY)[:2] == (0, "名前\n")
    assert call("remove", "名前", *FILE) == (0, "removed 1 photo\n", "")
    assert call("identify", photos["different"], *TINY)[:2] == (1, "unknown\n")
    status, out, _ = call("list", *FILE)
    assert status == 0
    assert "1 enrolled (list)" in out
    assert "Person A" in out
    out = call("queries", "--json", "--id", "Person A")[1]
    said = [(line["client"], line["operation"], line["allowed"], line["about"]) for line in json.loads(out)["queries"]]
    assert said == [
        (OPERATOR, "enroll", True, True),
        (OPERATOR, "enroll", True, False),
        ("client", "verify", True, True),
        ("client", "verify", True, True),
        ("client", "read", True, False),
        ("client", "identify", True, False),
        (OPERATOR, "remove", True, False),
        ("client", "read", True, False),
        ("client", "identify", True, False),
    ]
    assert "名前".encode() not in gallery.read_bytes()


@pytest.mark.slow
def test_the_server_alone_learns(call: Callable[..., Done], photos: dict[str, str], tiny_list: Path) -> None:
    only = " (only the server learned it)\n"
    secret = ["--reveal", "server", *TINY]
    assert call("verify", "--id", "Ann", photos["same"], *secret) == (0, f"same person{only}", "")
    status, out, _ = call("identify", photos["same"], "--top", "2", "--json", *secret)
    said = json.loads(out)
    assert (status, said["identities"][0], said["reveal"]) == (0, "Ann", "server")


@pytest.mark.slow
def test_a_private_gallerys_server_may_learn(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    assert call("enroll", "--id", "Ann", photos["a"], *TINY)[0] == 0
    only = " (only the server learned it)\n"
    secret = ["--reveal", "server", *TINY]
    assert call("verify", "--id", "Ann", photos["different"], *secret)[:2] == (1, f"different people{only}")


@pytest.mark.slow
def test_ranks_that_no_command_listens_to(photos: dict[str, str], tiny_list: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    asked = [GalleryTask(Verb.VERIFY, "Ann", photos["different"]), GalleryTask(Verb.VERIFY, "nobody", photos["a"])]
    write_tasks(tasks, [*asked, GalleryTask(Verb.IDENTIFY, None, photos["same"], 2)])
    shared = ["--model", "tiny-test", "--reveal", "both"]
    base = PARTY
    programs = [
        [*base, "client", *shared, "--aligned", "--tasks", str(tasks)],
        [*base, "server", *shared, "--gallery", str(tiny_list)],
    ]
    with ranks_in_threads(), Ranks.of(programs) as ranks:
        status, out, errors = ranks.end()
    assert status == 0, errors
    lines = out.splitlines()
    server = [line for line in lines if line.startswith("server: ")]
    assert server == ["server: different people: Ann", "server: Ann"]
    refused = "the server refuses: expected an enrolled identity, found none of that name"
    assert [line for line in lines if line not in server] == ["different people", refused, "Ann"]


def test_tasks_that_a_list_does_not_do(
    call: Callable[..., Done], photos: dict[str, str], tiny_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gallery_runs, "write_tasks", lambda path, _: write_tasks(path, [GalleryTask(Verb.REMOVE, "Ann")])
    )
    status, out, errors = call("verify", "--id", "Ann", photos["a"], *TINY)
    assert (status, out) == (2, "")
    assert (
        errors == "hybridface: client: expected verify or identify for a list, got remove: only its owner does that\n"
    )


@pytest.mark.slow
def test_import_and_export(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    folder = home / "people"
    (folder / "Ann").mkdir(parents=True)
    for name, place in (("a", "Ann/1.png"), ("same", "Ann/2.png"), ("different", "Bob.png")):
        (folder / place).write_bytes(Path(photos[name]).read_bytes())
    Image.fromarray(np.zeros((5, 5, 3), dtype=np.uint8)).save(folder / "small.png")
    (folder / "text.jpg").write_text("no photo")
    status, out, errors = call("import", str(folder), "--kind", "list", *TINY)
    assert (status, errors) == (1, "")
    first, *others = out.splitlines()
    assert first == "enrolled 3 of 5 photos"
    assert ["small.png: expected 16x16 pixels, got 5x5" in others[0], "text.jpg" in others[1]] == [True, True]
    status, out, _ = call("import", str(folder), "--json", *TINY, "--gallery", str(home / "two.db"), "--kind", "list")
    said = json.loads(out)
    failed = [one["photo"] for one in said["not_enrolled"]]
    assert (status, failed) == (1, [f"{folder}/small.png", f"{folder}/text.jpg"])
    assert [one["identity"] for one in said["enrolled"]] == ["Ann", "Ann", "Bob"]
    assert call("export", str(home / "list.jsonl"), *FILE)[:2] == (0, f"exported 3 photos to {home}/list.jsonl\n")
    other = ["--gallery", str(home / "other.db")]
    status, _, errors = call("import", str(home / "list.jsonl"), "--kind", "private", *FILE, *other)
    assert (status, errors) == (
        2,
        "hybridface: list.jsonl: expected a gallery of kind private, found one of kind list\n",
    )
    assert not (home / "other.db").exists()
    assert call("import", str(home / "list.jsonl"), *FILE, *other)[:2] == (0, "imported 3 photos\n")
    assert json.loads(call("list", "--json", *FILE, *other)[1]) == {
        "people": [{"identity": "Ann", "photos": 2}, {"identity": "Bob", "photos": 1}]
    }
    assert call("identify", photos["same"], *TINY, *other)[:2] == (0, "Ann\n")


def test_a_photo_of_several_that_cannot_be_used(call: Callable[..., Done], photos: dict[str, str], home: Path) -> None:
    Image.fromarray(np.zeros((5, 5, 3), dtype=np.uint8)).save(home / "small.png")
    status, out, errors = call("enroll", "--kind", "list", "--id", "Ann", photos["a"], str(home / "small.png"), *TINY)
    assert (status, out, errors) == (2, "", "hybridface: small.png: expected 16x16 pixels, got 5x5\n")
    assert not (home / "XDG_DATA_HOME").exists(), "nobody was enrolled"


@pytest.mark.parametrize(
    "option", [["--timeout", "300"], ["--cache", ""], ["--correlations", "ot"], ["--prepared", ""]]
)
def test_options_of_a_session_are_refused_for_a_list(
    call: Callable[..., Done], photos: dict[str, str], home: Path, option: list[str]
) -> None:
    """Also if their values are the usual ones: whoever gives one expects something of it."""
    refusal = f"hybridface: expected no {option[0]} for a list, which its server changes alone: it would do nothing\n"
    enroll, import_ = ["enroll", "--id", "Ann", photos["a"], *TINY], ["import", str(Path(photos["a"]).parent), *TINY]
    for command in (enroll, import_):
        assert call(*command, "--kind", "list", *option) == (2, "", refusal), command
    assert call("create-gallery", "--kind", "list", *FILE)[0] == 0
    for command in (enroll, import_, ["rename", "Ann", "Bob", *FILE], ["check-names", "--fix", *FILE]):
        assert call(*command, *option) == (2, "", refusal), command


@pytest.mark.slow
def test_what_is_refused(call: Callable[..., Done], photos: dict[str, str], tiny_list: Path) -> None:
    exported = tiny_list.parent / "list.jsonl"
    assert call("export", str(exported), *FILE)[0] == 0
    before = tiny_list.read_bytes()
    for arguments, message in (
        (
            ("enroll", "--kind", "private", "--id", "Cy", photos["a"], *TINY),
            "expected a gallery of kind private, found",
        ),
        (("enroll", "--id", "Cy", "--key", "k", photos["a"], *TINY), "expected no --key, since a list has none"),
        (("verify", "--id", "Ann", "--key", "k", photos["a"], *TINY), "expected no --key, since a list has none"),
        (("enroll", "--id", "", photos["a"], *TINY), "expected an identity of 1 to 10000 characters, got 0"),
        (("verify", "--id", "", photos["a"], *TINY), "expected an identity of 1 to 10000 characters, got 0"),
        (
            ("identify", photos["a"], "--shards", "2", *TINY),
            "expected no --shards, since a list is searched in one part",
        ),
        (("rotate-key", "new.key", *FILE), "expected a private gallery, found a list, which has no key"),
        (("identify", "nothing.png", *TINY), "nothing.png: expected a photo, found no such file"),
        (
            ("identify", photos["a"], "--model", "patchnet", "--aligned"),
            "expected a gallery of patchnet, got one of tiny-test; use it with --model tiny-test",
        ),
        (
            ("enroll", "--id", "Cy", photos["a"], "--model", "patchnet"),
            "expected a gallery of patchnet, got one of tiny-test; use it with --model tiny-test",
        ),
        (
            ("list", "--model", "patchnet"),
            "expected a gallery of patchnet, got one of tiny-test; use it with --model tiny-test",
        ),
        (("remove", "Ann"), "expected a gallery of dlib-resnet29, got one of tiny-test"),
        (
            ("import", str(exported), "--gallery", "new.db"),
            "list.jsonl: expected a gallery of dlib-resnet29, got one of",
        ),
        (("import", str(tiny_list.parent), "--dry-run"), "expected photos, found none among"),
        (("list", "--gallery", photos["a"]), "a.png"),
        (("queries", "--gallery", "none.db"), "expected a gallery, found no none.db"),
        (("queries", "--only"), "expected --id with --only, got none"),
        (("queries", "--id", ""), "expected an identity of 1 to 10000 characters, got 0"),
        (("import", str(tiny_list), *FILE), "gallery.db"),
    ):
        status, out, errors = call(*arguments)
        assert (status, out, errors.count("\n")) == (2, "", 1), arguments
        assert message in errors
    assert tiny_list.read_bytes() == before
    assert not Path("new.key").exists()
    assert not Path("new.db").exists()
    with contextlib.closing(sqlite3.connect(tiny_list)) as file:
        file.execute("UPDATE state SET model = ?", ("0" * 64,))
        file.commit()
    assert "got one of a network that this version does not know (digest '00000" in call("list", *FILE)[2]


def test_a_damaged_export_makes_no_gallery(call: Callable[..., Done], home: Path) -> None:
    """A list that nobody wanted would refuse the private gallery that is imported next."""
    assert call("create-gallery", "--kind", "list", *FILE)[0] == 0
    assert call("export", str(home / "out"), *FILE)[0] == 0
    (home / "cut").write_bytes((home / "out").read_bytes()[:-3])
    status, out, errors = call("import", str(home / "cut"), "--gallery", str(home / "new" / "b.db"), *FILE)
    assert (status, out) == (2, "")
    assert errors.startswith("hybridface: cut: expected an exported gallery, got a line of another form")
    assert not list(home.glob("**/b.db*"))


def test_a_refusal_is_an_error(call: Callable[..., Done], photos: dict[str, str], tiny_list: Path) -> None:
    status, out, errors = call("verify", "--id", "nobody", photos["a"], *TINY, "--json")
    error = {"kind": "query_refused", "message": errors.removeprefix("hybridface: ").rstrip("\n")}
    assert (status, json.loads(out)) == (2, {"error": error})
    assert "expected an enrolled identity, found none of that name" in errors


def test_the_log_as_a_table(call: Callable[..., Done], tiny_list: Path) -> None:
    status, out, errors = call("queries", "--last", "1")
    assert (status, errors) == (0, "")
    header, line = out.splitlines()
    assert header.split() == ["time", "client", "operation", "answered"]
    assert line.split()[2:] == [OPERATOR, "enroll", "yes"]
    header, *lines = call("queries", "--id", "Ann")[1].splitlines()
    assert header.split()[-2:] == ["about", "Ann"]
    assert [line.split()[4:] for line in lines] == [["yes", "yes"], ["yes"]]
    assert len(json.loads(call("queries", "--id", "Ann", "--only", "--json")[1])["queries"]) == 1
    line = json.loads(call("queries", "--json")[1])["queries"][0]
    assert line["about"] is None
    assert line["time"].endswith("+00:00")


def told(session: Any, reveal: Reveal, capsys: pytest.CaptureFixture[str], events: bool = False) -> tuple[str, int]:
    outcomes = _Outcomes(session, reveal, Events(Role.SERVER, events))
    outcomes.say()
    return capsys.readouterr().out, outcomes.status


def test_a_server_says_what_it_learns(capsys: pytest.CaptureFixture[str]) -> None:
    def obeyed(decisions: tuple[bool | None, ...] = (), names: tuple[str | None, ...] = ()) -> Any:
        asked = "[x]\n" if decisions else None
        return SimpleNamespace(last_decisions=decisions, last_identities=names, last_asked=asked)

    assert told(obeyed((None,)), Reveal.CLIENT, capsys) == ("", 0)
    assert told(obeyed((), (None, None)), Reveal.CLIENT, capsys) == ("", 0)
    assert told(obeyed(), Reveal.SERVER, capsys) == ("", 0)
    assert told(obeyed((True,)), Reveal.SERVER, capsys) == ("server: same person: '[x]\\n'\n", 0)
    assert told(obeyed((False,)), Reveal.BOTH, capsys) == ("server: different people: '[x]\\n'\n", 1)
    assert told(obeyed((), ("Ann", "Bob", None)), Reveal.BOTH, capsys) == ("server: Ann, Bob\n", 0)
    assert told(obeyed((), (None, None)), Reveal.SERVER, capsys) == ("server: unknown\n", 1)
    out, status = told(obeyed((), (None,)), Reveal.SERVER, capsys, events=True)
    assert (json.loads(out), status) == ({"event": "identified", "role": "server", "identities": [None]}, 1)
    out, _ = told(obeyed((True,)), Reveal.SERVER, capsys, events=True)
    assert json.loads(out) == {"event": "decision", "role": "server", "match": True, "identity": "[x]\n"}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"verb": "verify", "match": True}, "same person"),
        ({"verb": "verify", "match": None}, "not revealed to this party"),
        ({"verb": "identify", "match": None, "identities": [None]}, "not revealed to this party"),
        ({"verb": "identify", "match": False, "identities": [None]}, "unknown"),
        ({"verb": "identify", "match": True, "identities": ["a\x1b", "b"]}, "'a\\x1b'\nb"),
        ({"verb": "enroll", "identity": "Ann"}, "enrolled a photo of 'Ann'"),
        ({"verb": "enroll", "identity": "Ann", "unusable": "x.jpg: no face"}, "not enrolled: x.jpg: no face"),
        ({"verb": "verify", "refused": "the server refuses: no"}, "the server refuses: no"),
        ({"verb": "list", "enrolled": {}}, "nobody is enrolled"),
        ({"verb": "list", "enrolled": {"Ann": 2}}, "Ann: 2"),
        ({"verb": "remove", "identity": "Ann", "removed": 2}, "removed 2 photos of 'Ann'"),
        ({"verb": "rotate", "generation": 2}, "the gallery uses the new key now (generation 2)"),
    ],
)
def test_answers_in_words(answer: dict[str, Any], text: str) -> None:
    assert answer_text(answer) == text


@pytest.mark.parametrize("answer", [{"match": None}, {"match": None, "identities": [None]}])
def test_an_outcome_that_nobody_told_is_an_error(
    call: Callable[..., Done],
    photos: dict[str, str],
    tiny_list: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
) -> None:
    monkeypatch.setattr(gallery_runs, "start", lambda *_: Outcome(answers=[answer]))
    command = ["identify"] if "identities" in answer else ["verify", "--id", "Ann"]
    status, out, errors = call(*command, photos["a"], "--reveal", "server", *TINY)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert "no party sent" in errors


def test_a_gallery_is_opened_once(
    call: Callable[..., Done],
    photos: dict[str, str],
    tiny_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its header may be read before; opening it for use, and looking at the whole file, take long."""
    opened: list[bool] = []
    checked: list[Path] = []
    begin, check = Database.__init__, Database.check

    def counted_begin(self: Database, path: Path, timeout: float = 1.0, read_only: bool = False) -> None:
        opened.append(read_only)
        begin(self, path, timeout, read_only)

    def counted_check(self: Database) -> None:
        checked.append(self.path)
        check(self)

    monkeypatch.setattr(Database, "__init__", counted_begin)
    monkeypatch.setattr(Database, "check", counted_check)
    for command in (
        ("list", *FILE),
        ("enroll", "--id", "Ann", photos["same"], *TINY),
        ("export", str(tmp_path / "exported"), *FILE),
        ("remove", "Bob", *FILE),
    ):
        opened.clear()
        checked.clear()
        assert call(*command)[0] == 0
        assert (opened.count(False), len(checked)) == (int(command[0] != "list"), 1), command
    opened.clear()
    checked.clear()
    assert call("queries")[0] == 0
    assert (opened, checked) == ([True], []), "the log alone"
    monkeypatch.setattr(gallery_runs, "start", lambda *_: Outcome(answers=[{"verb": "verify", "match": True}]))
    opened.clear()
    assert call("verify", "--id", "Ann", photos["a"], *TINY)[0] == 0
    assert (opened.count(False), checked) == (0, []), "the server's rank opens it"
