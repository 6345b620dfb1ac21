"""The command line's options, as they reach the ranks."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hybridface.commands import gallery_runs
from hybridface.errors import RunError
from hybridface.faces.choice import FaceChoice
from hybridface.faces.options import PhotoOptions
from hybridface.folders import cache_directory
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.tasks import GalleryTask, Verb
from hybridface.models.model import load_model
from hybridface.modes import Mode
from hybridface.photos import photo_path
from hybridface.processes import supervised
from hybridface.processes.events import Events
from hybridface.processes.programs import programs_of
from hybridface.processes.runs import GalleryRun, HybridRun, PreparationRun, PureHeRun, Purpose, Run
from parties.gallery.key import create_key
from parties.gallery.kind import GalleryKind
from parties.session.correlations import Correlations
from parties.transport.roles import Role
from protocols.link import MOBILE, WAN
from protocols.matching.reveal import Reveal
from support.rank_programs import PARTY
from support.ranks import Done
from support.tiny_network import save_chips

TINY = ["--model", "tiny-test", "--aligned"]
OT, DEALER = Correlations.OT, Correlations.DEALER
GALLERY = GalleryRun(model="tiny-test", limits=True)
STOPPED = "not started"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Aligned random chips: "a", "same" and "different"."""
    return save_chips(tmp_path_factory.mktemp("photos"), seed=3)


@pytest.fixture
def read(call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return what each rank is told to do by its own command line."""

    def told(*lines: list[str]) -> dict[str, Any]:
        rank = ModuleType("hybridface.processes.rank")
        runs: dict[str, Any] = {}

        def run_rank(role: Role, run: Run, events: Events) -> int:
            assert (events.role, events.shown) == (role, True)
            runs[role.value] = run
            return 0

        rank.run_rank = run_rank  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "hybridface.processes.rank", rank)
        for line in lines:
            assert line[:4] == [sys.executable, "-P", "-m", "hybridface"]
            status, _, errors = call(*line[4:])
            assert (status, errors) == (0, ""), line
        return runs

    return told


@pytest.fixture
def ranks(
    call: Callable[..., Done], read: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Return what each rank is told to do by a command."""

    def told(*arguments: str) -> dict[str, Any]:
        lines: list[list[str]] = []

        def mpiexec_command(programs: list[list[str]], mpiexec: str) -> list[str]:
            lines.extend(program[4:] for program in programs)
            raise RunError(STOPPED)

        monkeypatch.setattr(supervised, "mpiexec_command", mpiexec_command)
        status, _, errors = call(*arguments)
        assert status == 2
        assert errors.startswith(f"hybridface: {STOPPED}")
        return read(*lines)

    return told


@pytest.fixture
def asked(
    ranks: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[GalleryTask, dict[str, Any]]]:
    """Return the task in the file that a command about a private gallery writes, and what else each rank is told."""
    gallery, key = tmp_path / "gallery.db", tmp_path / "key"
    GalleryFile(gallery, load_model("tiny-test", weights=False), GalleryKind.PRIVATE).close()
    create_key(key)
    written: dict[Path, list[GalleryTask]] = {}
    monkeypatch.setattr(gallery_runs, "write_tasks", lambda path, tasks: written.update({path: list(tasks)}))

    def told(*arguments: str) -> tuple[GalleryTask, dict[str, Any]]:
        runs = ranks(*arguments, "--model", "tiny-test", "--quiet", "--gallery", str(gallery), "--key", str(key))
        (task,) = written[runs["client"].tasks]
        if task.photo is not None:
            assert task.chip == str(runs["client"].tasks.with_name("0.png")), "a file with the aligned face"
            task = dataclasses.replace(task, chip=None)
        return task, runs | {"client": dataclasses.replace(runs["client"], tasks=None)}

    return told


def test_options_reach_the_ranks(ranks: Callable[..., dict[str, Any]], photos: dict[str, str], tmp_path: Path) -> None:
    a, b = Path(photos["a"]), Path(photos["same"])
    shared = ["--quiet", "--reveal", "both", "--enrolled", "--timeout", "7", "--prepared", str(tmp_path)]
    told = ranks("verify", str(a), str(b), *TINY, *shared, "--correlations", "dealer", "--workers", "2")
    assert list(told) == ["client", "server", "dealer", "worker"]
    server = HybridRun(
        model="tiny-test",
        timeout=7.0,
        reveal=Reveal.BOTH,
        correlations=DEALER,
        cache=cache_directory(),
        prepared=tmp_path / "server",
    )
    chips = told["client"].photos
    assert [chip.name for chip in chips] == ["0.png", "1.png"], "files with the aligned faces"
    assert not any(chip.exists() for chip in chips)
    own = {"photos": chips, "aligned": True, "enrolled": True, "prepared": tmp_path / "client"}
    assert told["client"] == dataclasses.replace(server, **own)
    assert told["server"] == server
    assert told["worker"] == dataclasses.replace(server, prepared=None)
    assert (told["dealer"].photos, told["dealer"].correlations, told["dealer"].timeout) == ((), DEALER, 7.0)


def test_the_benchmarks_options_reach_the_client(ranks: Callable[..., dict[str, Any]]) -> None:
    words = ["--runs", "3", "--batch", "2", "--pool", "1", "--pause", "0.5", "--cache", "none"]
    told = ranks("bench", "verify", "--quiet", "--model", "tiny-test", *words)
    assert list(told) == ["client", "server"], "no dealer unless one is asked for"
    portraits = tuple(photo_path(f"person_b_{i}.jpg") for i in (1, 2))
    run = HybridRun(model="tiny-test", photos=portraits, enrolled=True, repeat=3, batch=2, pool=1, pause=0.5)
    assert told["client"] == dataclasses.replace(run, cache=cache_directory()), "only the server has a cache"
    assert told["server"] == HybridRun(model="tiny-test")


def test_a_preparation_reaches_the_client(ranks: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    told = ranks("prepare", "--count", "3", "--for", "template", "--prepared", str(tmp_path), "--quiet")
    assert isinstance(told["client"], PreparationRun)
    assert (told["client"].count, told["client"].purpose) == (3, Purpose.TEMPLATE)
    assert (told["client"].prepared, told["server"].prepared) == (tmp_path / "client", tmp_path / "server")


def test_a_mode_reaches_its_ranks(ranks: Callable[..., dict[str, Any]]) -> None:
    portraits = [str(photo_path(f"person_b_{i}.jpg")) for i in (1, 2)]
    told = ranks("verify", *portraits, "--quiet", "--mode", "pure-he")
    assert [(role, run.mode, run.model) for role, run in told.items()] == [
        ("client", Mode.PURE_HE, "patchnet"),
        ("server", Mode.PURE_HE, "patchnet"),
    ]
    assert (told["client"].aligned, len(told["client"].photos), told["server"].photos) == (True, 2, ())
    told = ranks("bench", "verify", "--quiet", "--runs", "70", "--mode", "pure-he")
    assert [(run.max_answers, run.repeat) for run in told.values()] == [(70, 70), (70, 1)]


def test_a_link_reaches_all_ranks(ranks: Callable[..., dict[str, Any]], photos: dict[str, str]) -> None:
    dealt = ["--correlations", "dealer"]
    told = ranks("verify", photos["a"], photos["same"], *TINY, "--quiet", "--link", "wan", *dealt)
    assert [(role, run.link) for role, run in told.items()] == [("client", WAN), ("server", WAN), ("dealer", WAN)]
    told = ranks("bench", "verify", "--quiet", "--model", "tiny-test", "--link", "mobile")
    assert [run.link for run in told.values()] == [MOBILE] * 2


def test_a_comparison_with_somebody_in_a_gallery_reaches_the_ranks(
    asked: Callable[..., tuple[GalleryTask, dict[str, Any]]], photos: dict[str, str], tmp_path: Path
) -> None:
    words = ["verify", photos["a"], "--id", "Ann"]
    task, told = asked(*words, "--aligned", "--cache", "none", "--link", "wan", "--timeout", "7")
    assert task == GalleryTask(Verb.VERIFY, "Ann", photos["a"])
    run = dataclasses.replace(GALLERY, link=WAN, timeout=7.0)
    assert told == {
        "client": dataclasses.replace(run, key=tmp_path / "key", cache=cache_directory(), aligned=True),
        "server": dataclasses.replace(run, gallery=tmp_path / "gallery.db"),
    }

    _, told = asked(*words, "--aligned", "--correlations", "dealer", "--reveal", "both", "--prepared", str(tmp_path))
    assert list(told) == ["client", "server", "dealer"]
    run = dataclasses.replace(GALLERY, correlations=DEALER, reveal=Reveal.BOTH, cache=cache_directory())
    assert told["client"] == dataclasses.replace(run, key=tmp_path / "key", prepared=tmp_path / "client", aligned=True)
    assert told["server"] == dataclasses.replace(run, gallery=tmp_path / "gallery.db", prepared=tmp_path / "server")
    assert told["dealer"].correlations is DEALER


def test_a_search_in_shards_reaches_the_ranks(
    asked: Callable[..., tuple[GalleryTask, dict[str, Any]]], photos: dict[str, str], tmp_path: Path
) -> None:
    words = [
        "--aligned",
        "--top",
        "3",
        "--no-limits",
        "--shards",
        "3",
        "--correlations",
        "dealer",
        "--reveal",
        "server",
    ]
    task, told = asked("identify", photos["a"], *words)
    assert task == GalleryTask(Verb.IDENTIFY, None, photos["a"], 3)
    run = dataclasses.replace(GALLERY, correlations=DEALER, cache=cache_directory())
    shard = dataclasses.replace(run, model=Mode.HYBRID.default_model)  # which it does not look at
    key, gallery = {"key": tmp_path / "key"}, {"gallery": tmp_path / "gallery.db"}
    told.pop("dealer")
    assert told == {
        "client": dataclasses.replace(run, **key, reveal=Reveal.SERVER, aligned=True),
        "server": dataclasses.replace(run, **gallery, reveal=Reveal.SERVER, limits=False),
        "client-shard": dataclasses.replace(shard, **key),
        "server-shard": dataclasses.replace(shard, **gallery),
        "dealer-shard": shard,
    }
    programs = programs_of(dataclasses.replace(run, shards=3))
    shards = ["client-shard", "server-shard", "dealer-shard"]
    assert [role for role, *_ in programs] == ["client", "server", "dealer", *shards, *shards]


def test_a_change_of_key_reaches_the_ranks(
    asked: Callable[..., tuple[GalleryTask, dict[str, Any]]], tmp_path: Path
) -> None:
    task, told = asked("rotate-key", str(tmp_path / "new.key"))
    assert task == GalleryTask(Verb.ROTATE, key=str(tmp_path / "new.key"))
    run = dataclasses.replace(GALLERY, cache=cache_directory())
    assert told == {
        "client": dataclasses.replace(run, key=tmp_path / "key"),
        "server": dataclasses.replace(run, gallery=tmp_path / "gallery.db"),
    }


def test_the_name_of_a_gallerys_client_reaches_the_server(read: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    gallery = tmp_path / "gallery.db"
    run = GalleryRun(model="tiny-test", gallery=gallery, client_name="Bank of A", limits=False)
    (program,) = (program for program in programs_of(run) if program[0] == "server")
    assert read([*PARTY, *program]) == {"server": run}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reveal", "server"], "expected no --reveal server in pure-HE mode, where the client learns the result"),
        (["--workers", "1"], "expected no --workers in pure-HE mode: it would do nothing"),
    ],
)
def test_what_pure_he_does_not_have(
    call: Callable[..., Done], photos: dict[str, str], words: list[str], message: str
) -> None:
    status, out, errors = call("verify", photos["a"], photos["same"], "--mode", "pure-he", *words)
    assert (status, out) == (2, "")
    assert message in errors


@pytest.mark.parametrize(
    "name",
    [
        "two words.png",
        'it\'s [b]"é".png',
        "--events.png",
    ],
)
def test_names_of_photos_are_only_names(
    ranks: Callable[..., dict[str, Any]],
    read: Callable[..., dict[str, Any]],
    photos: dict[str, str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # after `call` has gone elsewhere
    Path(name).write_bytes(Path(photos["a"]).read_bytes())
    assert list(ranks("verify", *TINY, "--quiet", "--", name, photos["same"])) == ["client", "server"]
    run = HybridRun(model="tiny-test", photos=(Path(name), Path(photos["same"])), aligned=True)
    assert read([*PARTY, *programs_of(run)[0]])["client"].photos == run.photos


def test_how_photos_are_read_reaches_the_client(read: Callable[..., dict[str, Any]]) -> None:
    reading = PhotoOptions(FaceChoice.LARGEST, accept_damaged=True)
    for run in (
        HybridRun(model="tiny-test", photos=(Path("a"), Path("b")), reading=reading),
        PureHeRun(model="patchnet", photos=(Path("a"), Path("b")), reading=reading),
        GalleryRun(model="tiny-test", tasks=Path("tasks"), reading=reading),
    ):
        told = read([*PARTY, *programs_of(run)[0]])["client"]
        assert (type(told), told.reading, told.aligned) == (type(run), reading, False)
