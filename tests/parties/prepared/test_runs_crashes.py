"""Prepared runs after a crash or a power cut at any step of either party: nothing is used twice, no answer is wrong.

A session is recorded once; of every prefix of its calls, what a kill and what a power cut would leave is looked at (see
`support.crashes`): of both parties, and of one, while the other one went on, or had not come so far.
"""

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from hybridface.models.model import Model
from parties.prepared.store import PreparedStore
from support.crashes.disk import Cut, Disk, crashes, record_calls
from support.crashes.prepared import photo_twice, use
from support.crashes.record import Call
from support.prepared_runs import expected, runs

pytestmark = pytest.mark.slow

SIDES = ("client", "server")


@pytest.fixture(scope="module", params=["keep", "use"])
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: Model
) -> tuple[Path, Disk, list[Call]]:
    """Return a folder with both parties' folders in it, what lay there, and what a session did to them."""
    base = tmp_path_factory.mktemp("base")
    if request.param == "use":
        use(base, model, "keep", photo_twice(model), True)
    before, calls = record_calls(base, "support.crashes.prepared", request.param)
    written = {"write", "sync"} if request.param == "keep" else set()
    assert {call.kind for call in calls} >= {"sync folder", "rename", "mark", *written}
    return base, before, calls


def read_by(marks: list[str], side: str) -> set[tuple[str, str]]:
    """Return the runs that a party has read, by peer and number."""
    paths = (Path(mark.removeprefix("read ")).parts for mark in marks if mark.startswith(f"read {side}/"))
    return {(peer, number) for _, peer, number in paths}


def bindings(folder: Path) -> dict[tuple[str, str], str]:
    """Return what every run of a party that looks ready belongs to, by peer and number."""
    files = folder.glob("*/*.ready")
    return {(path.parent.name, path.stem): path.read_bytes()[32:96].decode(errors="replace") for path in files}


def test_what_was_read_is_never_read_again(tmp_path: Path, recording: tuple[Path, Disk, list[Call]]) -> None:
    """Each party by itself: after any crash, a run that was read before is gone; one that was kept is whole."""
    base, before, calls = recording
    folder, states, whole = tmp_path / "left", 0, 0
    kept = sum(call.kind == "rename" and call.path.endswith(".ready") for call in calls)
    for count, cut, disk, marks in crashes(before, calls):
        where = f"{cut} after {count} calls, the last one {calls[count - 1] if count else 'none'}"
        disk.write(cut, base, folder)
        for side in SIDES:
            store = PreparedStore(folder / side)
            if (folder / side).is_dir():
                store.clean()
                assert len(store.identity()) == 32, where
            found = bindings(folder / side)
            assert not read_by(marks, side) & set(found), f"{side}: {where}"
            assert "done" not in marks or len(found) == kept / 2, f"{side}: {where}"
            for (peer, number), binding in found.items():
                arrays = store.take(peer, number, binding)
                whole += arrays is not None
                assert arrays is not None, f"{side}: half a run after a {where}"
                assert store.take(peer, number, binding) is None, f"{side}: {where}"
        shutil.rmtree(folder)
        states += 1
    assert states > 10
    assert whole > 20


def both_crash(before: Disk, calls: list[Call]) -> Iterator[dict[str, tuple[Cut, Disk]]]:
    """Yield what a crash of both leaves of each."""
    for _, cut, disk, _ in crashes(before, calls):
        yield dict.fromkeys(SIDES, (cut, disk))


def one_crashes(before: Disk, calls: list[Call], side: str) -> Iterator[dict[str, tuple[Cut, Disk]]]:
    """Yield what a crash of one party leaves of it, with what the other one has at the end, or had at the start."""
    *_, (_, _, after, _) = crashes(before, calls)
    (other,) = set(SIDES) - {side}
    for _, cut, disk, _ in crashes(before, calls):
        for known in (after, before):
            yield {side: (cut, disk), other: (Cut.KILL, known)}


def names_of(folder: Path) -> tuple[str, ...]:
    return tuple(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))


def left_in_use(folder: Path) -> list[Path]:
    """Return the runs that look ready, but for those of a peer that has lost its folder, and has another name now."""
    known = {path.read_text() for path in [*folder.glob("client/*/pairing"), *folder.glob("server/identity")]}
    return [path for path in runs(folder) if path.suffix == ".ready" and path.parent.name in known]


def test_what_is_left_gives_right_answers(
    tmp_path: Path, model: Model, recording: tuple[Path, Disk, list[Call]]
) -> None:
    """A session after any crash: of states with the same names of files, one."""
    base, before, calls = recording
    pair, seen = photo_twice(model), set[tuple[str, ...]]()
    match = expected(model, pair)
    for parts in chain(both_crash(before, calls), *(one_crashes(before, calls, side) for side in SIDES)):
        folder, work = tmp_path / "left", tmp_path / "work"
        work.mkdir()
        for side, (cut, disk) in parts.items():
            disk.write(cut, base, folder)
            if (folder / side).is_dir():
                (folder / side).rename(work / side)
            shutil.rmtree(folder)
        if names_of(work) not in seen:
            seen.add(names_of(work))
            use(work, model, "use", pair, match)
            assert not left_in_use(work)
        shutil.rmtree(work)
    assert len(seen) > 10
