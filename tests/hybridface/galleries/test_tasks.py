"""Tasks about a gallery in a file: as documented, and what is none is refused with its line."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hybridface.galleries.tasks import GalleryTask, Verb, read_tasks, write_tasks
from protocols.errors import ParameterError
from support.paths import ROOT


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_there_and_back(tmp_path: Path) -> None:
    tasks = [
        GalleryTask(Verb.ENROLL, "Zoë\n", "a b.jpg", optional=True),
        GalleryTask(Verb.IDENTIFY, photo="p.jpg", top=3),
        GalleryTask(Verb.ROTATE, key="new.key"),
    ]
    path = tmp_path / "tasks.jsonl"
    write_tasks(path, tasks)
    assert read_tasks(path) == tasks


def test_the_documented_tasks_are_tasks(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "BETWEEN_MACHINES.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    tasks = [task for block in blocks for task in read_tasks(written(tmp_path, *block.splitlines()))]
    assert {task.verb for task in tasks} == set(Verb)


def test_empty_lines_are_none(tmp_path: Path) -> None:
    assert read_tasks(written(tmp_path, "", '{"verb": "list"}', "  ")) == [GalleryTask(Verb.LIST)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "line 2: expected a JSON object, got JSONDecodeError"),
        ("[" * 100_000, "line 2: expected a JSON object, got RecursionError"),
        ('"list"', "line 2: expected a JSON object with a verb among enroll, verify"),
        ({}, "line 2: expected a JSON object with a verb"),
        ({"verb": "open"}, "line 2: expected a JSON object with a verb"),
        ({"verb": ["list"]}, "line 2: expected a JSON object with a verb"),
        ({"verb": "identify", "photos": "a.jpg"}, "line 2: expected the fields verb, identity, photo, .*got 'photos'"),
        ({"verb": "identify", "photo": 5}, "line 2: expected another type of 'photo', got int"),
        ({"verb": "identify", "photo": "a.jpg", "top": True}, "line 2: expected another type of 'top', got bool"),
        ({"verb": "identify", "photo": "a.jpg", "top": None}, "line 2: expected another type of 'top', got NoneType"),
        ({"verb": "enroll", "photo": "a.jpg"}, "line 2: expected 'identity' for the verb enroll, got none"),
        ({"verb": "enroll", "identity": "a"}, "line 2: expected 'photo' for the verb enroll"),
        ({"verb": "verify", "identity": "a"}, "line 2: expected 'photo' for the verb verify"),
        ({"verb": "identify"}, "line 2: expected 'photo' for the verb identify"),
        ({"verb": "remove"}, "line 2: expected 'identity' for the verb remove"),
        ({"verb": "rotate"}, "line 2: expected 'key' for the verb rotate"),
        ({"verb": "rotate", "key": "a\0b"}, "line 2: expected the name of a file in 'key', got one that no file can"),
        ({"verb": "identify", "photo": "\ud800"}, "line 2: expected the name of a file in 'photo', got one that no"),
        ({"verb": "identify", "photo": "a", "chip": "\0"}, "line 2: expected the name of a file in 'chip', got one"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_what_is_no_task_is_refused(line: Any, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, '{"verb": "list"}', line if isinstance(line, str) else json.dumps(line))
    with pytest.raises(ParameterError, match=f"^tasks.jsonl, {said}"):
        read_tasks(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    with pytest.raises(ParameterError, match=r"^cannot read the tasks in tasks.jsonl: "):
        read_tasks(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ParameterError, match=r"^cannot read the tasks in tasks.jsonl: expected UTF-8, got other bytes"):
        read_tasks(path)


@pytest.mark.timeout(20)
def test_a_file_that_has_no_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(ParameterError, match=f"^cannot read the tasks in {name}: expected a plain file"):
            read_tasks(tmp_path / name)
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    with pytest.raises(ParameterError, match=r"^cannot read the tasks in large: expected at most 268435456 bytes"):
        read_tasks(tmp_path / "large")


@pytest.mark.timeout(20)
def test_a_file_of_very_many_or_very_long_lines_is_refused(tmp_path: Path) -> None:
    """Each line takes more memory than it has bytes."""
    for content, said in ((b"\n" * (1 << 22), "2097152 lines"), (b" " * (1 << 22), "1048576 characters in a line")):
        (tmp_path / "tasks.jsonl").write_bytes(content)
        with pytest.raises(ParameterError, match=f"^cannot read the tasks in tasks.jsonl: expected at most {said}"):
            read_tasks(tmp_path / "tasks.jsonl")


def test_names_of_files_need_not_be_text(tmp_path: Path) -> None:
    tasks = [GalleryTask(Verb.IDENTIFY, photo=os.fsdecode(b"caf\xe9.png"))]
    write_tasks(tmp_path / "tasks.jsonl", tasks)
    assert read_tasks(tmp_path / "tasks.jsonl") == tasks


def test_lines_may_end_as_other_systems_end_them(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_bytes(b'{"verb": "list"}\r\n\r\n{"verb": "list"}\r\n')
    assert read_tasks(tmp_path / "tasks.jsonl") == [GalleryTask(Verb.LIST)] * 2
