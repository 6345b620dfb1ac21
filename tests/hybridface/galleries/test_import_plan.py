"""Whose photos a folder has: one rule, and whatever it does not settle is told, never guessed."""

import os
from pathlib import Path

import pytest

from hybridface.galleries.folder_photos import Kind
from hybridface.galleries.import_plan import IdentityRule, ImportPlan, plan_import
from protocols.errors import ParameterError

NESTED = ["sales/alice/1.jpg", "sales/bob/1.jpg", "support/cleo/2019/dan/1.jpg", "eve.jpg"]


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def named(plan: ImportPlan, folder: Path) -> dict[str, str]:
    return {str(photo.relative_to(folder)): name for name, photo in plan.people}


def told(plan: ImportPlan, folder: Path) -> dict[str, tuple[Kind, str]]:
    return {str(one.path.relative_to(folder)): (one.kind, one.reason) for one in plan.unused}


def test_a_photo_is_of_whom_its_own_folder_is_named_after(tmp_path: Path) -> None:
    plan = plan_import(make(tmp_path, *NESTED), IdentityRule.FOLDER)
    assert list(named(plan, tmp_path).values()) == ["eve", "alice", "bob", "dan"]
    assert plan.unused == ()


def test_or_of_whom_the_file_is_named_after(tmp_path: Path) -> None:
    make(tmp_path, "a/alice.jpg", "a/alice.png", "b/bob.jpg", "eve.jpg", "v1.2/zoe.b.jpg")
    plan = plan_import(tmp_path, IdentityRule.FILE)
    assert sorted(named(plan, tmp_path).values()) == ["alice", "alice", "bob", "eve", "zoe.b"]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (IdentityRule.FOLDER, ["sales/alice/1.jpg", "hr/alice/1.jpg"]),
        (IdentityRule.FOLDER, ["alice/1.jpg", "alice.jpg"]),
        (IdentityRule.FOLDER, ["alice/1.jpg", "alice/alice/2.jpg"]),
        (IdentityRule.FOLDER, ["a/Zoë/1.jpg", "a/Zoe\u0308/1.jpg"]),
        (IdentityRule.FILE, ["sales/alice.jpg", "hr/alice.jpg"]),
    ],
)
def test_a_name_in_two_places_is_nobodys(tmp_path: Path, rule: IdentityRule, names: list[str]) -> None:
    plan = plan_import(make(tmp_path, *names, "bob/1.jpg" if rule == "folder" else "bob.jpg"), rule)
    assert [name for name, _ in plan.people] == ["bob"]
    reasons = told(plan, tmp_path)
    assert sorted(reasons) == sorted(names)
    assert {kind for kind, _ in reasons.values()} == {Kind.FAULT}
    assert all("say with --identity-from csv that they are one person" in reason for _, reason in reasons.values())


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (" alice", "begins or ends with white space"),
        ("alice ", "begins or ends with white space"),
        (" ", "white space alone"),
        ("a\u200bb", "U+200B"),
        ("a\nb", "U+000A"),
        (os.fsdecode(b"caf\xe9"), "a lone surrogate"),
    ],
)
def test_a_name_that_cannot_be_is_told(tmp_path: Path, folder: str, said: str) -> None:
    plan = plan_import(make(tmp_path, f"{folder}/1.jpg", "bob/1.jpg"), IdentityRule.FOLDER)
    assert [name for name, _ in plan.people] == ["bob"]
    ((kind, reason),) = told(plan, tmp_path).values()
    assert kind is Kind.FAULT
    assert said in reason


def test_names_of_folders_have_one_form(tmp_path: Path) -> None:
    plan = plan_import(make(tmp_path, "Zoe\u0308/1.jpg", "ALICE/1.jpg", "alice/2.jpg"), IdentityRule.FOLDER)
    assert [name for name, _ in plan.people] == ["ALICE", "Zoë", "alice"]
    assert plan.alike == (("ALICE", "alice"),), "they may be one person: it is told"


def by_list(folder: Path, text: str | bytes) -> ImportPlan:
    names = folder / "names.csv"
    names.write_bytes(text if isinstance(text, bytes) else text.encode())
    return plan_import(folder, IdentityRule.CSV, names)


def test_a_list_says_whose_each_photo_is(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg", "Zoë/1.jpg", "c.jpg", "d.jpg")
    text = 'identity,photo\r\nalice,a/1.jpg\r\nalice,./b//1.jpg\r\nalice,a/1.jpg\r\n"Zoë, 2nd",Zoe\u0308/1.jpg\r\n'
    plan = by_list(tmp_path, text + "x,c.jpg\ny,c.jpg\nz,none.jpg\n")
    assert named(plan, tmp_path) == {"a/1.jpg": "alice", "b/1.jpg": "alice", "Zoë/1.jpg": "Zoë, 2nd"}
    assert told(plan, tmp_path) == {
        "d.jpg": (Kind.OTHER, "not in names.csv"),
        "c.jpg": (Kind.FAULT, "names.csv names two people for it, in lines 6 and 7"),
        "none.jpg": (Kind.FAULT, "in line 8 of names.csv, but there is no such photo"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a first line with the columns photo and identity"),
        ("photo;identity\n", "expected a first line with the columns photo and identity"),
        ("photo,identity\na.jpg\n", "line 2: expected a photo and an identity"),
        ("photo,identity\na.jpg,x,y\n", "line 2: expected a photo and an identity"),
        ("photo,identity\n,x\n", "line 2: expected a photo and an identity"),
        ("photo,identity\na.jpg,\n", "line 2: expected an identity of 1 to 10000 characters"),
        ("photo,identity\na.jpg, x\n", "line 2: expected a name of visible characters"),
        ('photo,identity\na.jpg,"x"y\n', "expected a CSV file, got one that is damaged"),
        ('photo,identity\na.jpg,"x\n', "expected a CSV file, got one that is damaged"),
        ("photo,identity\na.jpg," + "x" * 200_000, "expected a CSV file, got one that is damaged"),
        ("photo,identity\na.jpg,caf\xe9\n".encode("latin-1"), "expected a CSV file in UTF-8"),
        ("photo,identity\na.jpg,x\n".encode("utf-16"), "expected a CSV file in UTF-8"),
        (b"photo,identity\na.jpg,\0\n", "line "),
    ],
)
def test_a_list_that_is_damaged_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    make(tmp_path, "a.jpg")
    with pytest.raises(ParameterError, match="names.csv: ") as caught:
        by_list(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_goes_with_its_rule(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "names.csv")
    for rule, names in ((IdentityRule.CSV, None), (IdentityRule.FOLDER, tmp_path / "names.csv")):
        with pytest.raises(ParameterError, match=r"expected --names \(a CSV file\) and --identity-from csv together"):
            plan_import(tmp_path, rule, names)
    with pytest.raises(ParameterError, match=r"none.csv: expected a CSV file of at most 256 MB"):
        plan_import(tmp_path, IdentityRule.CSV, tmp_path / "none.csv")


@pytest.mark.timeout(20)
def test_a_list_that_has_no_end_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "large.csv").touch()
    os.truncate(tmp_path / "large.csv", 1 << 40)
    (tmp_path / "lines.csv").write_bytes(b"photo,identity\n" + b"\n" * (1 << 20))
    (tmp_path / "line.csv").write_bytes(b"photo,identity\n" + b"," * (1 << 21))
    for name, said in (
        ("pipe", "expected a plain file"),
        ("large", "expected at most 268435456 bytes, got more"),
        ("lines", "expected at most 1048576 lines, got more"),
        ("line", "expected at most 1048576 characters in a line, got more"),
    ):
        with pytest.raises(ParameterError, match=f"{name}.csv: expected a CSV file of at most 256 MB, .*{said}"):
            plan_import(tmp_path, IdentityRule.CSV, tmp_path / f"{name}.csv")
