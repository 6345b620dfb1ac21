"""Shards from start to end: started by hand as docs/GALLERIES.md says, and refused where they search nothing."""

from pathlib import Path

import pytest

from hybridface.galleries.file import GalleryFile, index_folder
from hybridface.galleries.tasks import GalleryTask, Verb, write_tasks
from hybridface.models.model import load_model
from parties.gallery.key import create_key
from parties.gallery.kind import GalleryKind
from support.rank_programs import FAILED, PARTY, TINY, said
from support.ranks import Ranks, ranks_in_threads

pytestmark = pytest.mark.slow


def run(*programs: list[str]) -> tuple[int, str, list[str]]:
    """Return the exit status, standard output, and what our ranks wrote on standard error."""
    with ranks_in_threads(), Ranks.of([[*PARTY, *program, "--timeout", "60"] for program in programs]) as ranks:
        status, out, errors = ranks.end(120)
    return status, out, said(errors)


@pytest.mark.parametrize("correlations", ["ot", "dealer"])
def test_two_shards_by_hand(tmp_path: Path, photos: dict[str, str], correlations: str) -> None:
    made = ["--correlations", correlations]
    key, gallery, tasks = (tmp_path / name for name in ("gallery.key", "gallery.db", "tasks.jsonl"))
    create_key(key)
    names = ["Ann", "Bob", "Cyd", "Dan"]
    chips = [photos["a"], photos["different"], photos["different"], photos["a"]]
    write_tasks(
        tasks,
        [
            *(GalleryTask(Verb.ENROLL, name, chip) for name, chip in zip(names, chips, strict=True)),
            GalleryTask(Verb.REMOVE, "Dan"),
            GalleryTask(Verb.IDENTIFY, photo=photos["same"], top=1),
        ],
    )
    status, out, errors = run(
        ["client", *TINY, *made, "--aligned", "--tasks", str(tasks), "--key", str(key)],
        ["server", *TINY, *made, "--gallery", str(gallery), "--new-gallery"],
        ["client-shard", *made, "--key", str(key)],
        ["server-shard", *made, "--gallery", str(gallery)],
        *([["dealer", *made], ["dealer-shard", *made]] if correlations == "dealer" else []),
    )
    assert (status, errors) == (0, [])
    assert out.splitlines()[-1] == "Ann"
    heads = list(index_folder(gallery).glob("*.head"))
    assert len(heads) == len(list(index_folder(key).glob("*.head"))) == 2, "one of each shard"
    with GalleryFile(gallery, load_model("tiny-test", weights=False), GalleryKind.PRIVATE) as file:
        assert file.identities() == {"Ann": 1, "Bob": 1, "Cyd": 1}


@pytest.mark.parametrize("with_gallery", ["nobody", "client", "server"])
def test_shards_without_a_private_gallery(tmp_path: Path, photos: dict[str, str], with_gallery: str) -> None:
    key, gallery, tasks = (tmp_path / name for name in ("gallery.key", "gallery.db", "tasks.jsonl"))
    create_key(key)
    write_tasks(tasks, [GalleryTask(Verb.IDENTIFY, photo=photos["same"])])
    asked = ["--tasks", str(tasks), "--key", str(key)] if with_gallery == "client" else [photos["a"], photos["same"]]
    held = ["--gallery", str(gallery)] if with_gallery == "server" else []
    status, _, errors = run(
        ["client", *TINY, "--aligned", *asked],
        ["server", *TINY, *held],
        ["client-shard", "--key", str(key)],
        ["server-shard", "--gallery", str(gallery)],
    )
    assert status in FAILED
    wrong = {"nobody": "--tasks and --key|--gallery", "client": "--gallery", "server": "--tasks and --key"}[
        with_gallery
    ]
    expected = [f"expected {option} with ranks of shards" for option in wrong.split("|")]
    assert any(text in line for text in expected for line in errors), errors


def test_a_gallery_has_no_workers(tmp_path: Path, photos: dict[str, str]) -> None:
    key, gallery, tasks = (tmp_path / name for name in ("gallery.key", "gallery.db", "tasks.jsonl"))
    create_key(key)
    write_tasks(tasks, [GalleryTask(Verb.ENROLL, "Ann", photos["a"])])
    status, _, errors = run(
        ["client", *TINY, "--aligned", "--tasks", str(tasks), "--key", str(key)],
        ["server", *TINY, "--gallery", str(gallery)],
        ["worker", *TINY],
    )
    assert status in FAILED
    assert "hybridface server: expected no workers for a gallery, got 1" in errors


def test_a_server_makes_a_gallery_only_if_it_is_told_to(tmp_path: Path, photos: dict[str, str]) -> None:
    key, gallery, tasks = (tmp_path / name for name in ("gallery.key", "typo.db", "tasks.jsonl"))
    create_key(key)
    write_tasks(tasks, [GalleryTask(Verb.ENROLL, "Ann", photos["a"])])
    status, _, errors = run(
        ["client", *TINY, "--aligned", "--tasks", str(tasks), "--key", str(key)],
        ["server", *TINY, "--gallery", str(gallery)],
    )
    assert status in FAILED
    assert "hybridface server: typo.db: expected a gallery, found no such file; enrol somebody first" in errors
    assert not gallery.exists()
