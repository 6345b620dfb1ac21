"""Runs of commands with a remote server: what the client's part reports, and how it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridface.errors import ImageError, RunError
from hybridface.processes.runs import HybridRun, PreparationRun, Run
from hybridface.remote.start import RemoteServer
from parties.gallery.errors import QueryRefusedError
from parties.gallery.rights import Right
from protocols.errors import ParameterError
from support.remote_server import NAME, RemoteServerThread, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RemoteServerThread]:
    with serving(tmp_path, "tiny-test", galleries={"guests": (Right.IDENTIFY,), "staff": (Right.VERIFY,)}) as running:
        yield running


@pytest.fixture(autouse=True)
def _untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridface.remote.start.tune_process", lambda: None)


def remote(server: RemoteServerThread, model: str = "") -> RemoteServer:
    return RemoteServer(NAME, server.identity, lambda text: None, timeout=20, model=model)


def run_of(photos: dict[str, str], second: str = "same") -> HybridRun:
    return HybridRun(model="tiny-test", photos=(Path(photos["a"]), Path(photos[second])), aligned=True)


def test_a_run_reports_what_ranks_would(server: RemoteServerThread, photos: dict[str, str]) -> None:
    events: list[dict[str, Any]] = []
    with remote(server) as there:
        assert there.model.name == "tiny-test"
        first = there.start(run_of(photos), events.append)
        second = there.start(run_of(photos, "different"))
    assert (first.match, second.match) == (True, False)
    assert first.memory["client"] > 1 << 20
    assert set(first.memory) == {"client"}
    assert {"progress", "result"} <= {event["event"] for event in events}
    assert {event["role"] for event in events if event["event"] == "progress"} == {"client"}
    assert (server.sessions, server.errors) == (2, [])


def test_prepared_runs_are_kept(server: RemoteServerThread, photos: dict[str, str], tmp_path: Path) -> None:
    run = PreparationRun(model="tiny-test", count=1, prepared=tmp_path / "prepared")
    with remote(server) as there:
        assert len(there.start(run).kept) == 1
    assert len(list((server.folder / "prepared" / "bank").rglob("*.ready"))) == 1


def test_a_bad_photo_opens_no_session(server: RemoteServerThread, photos: dict[str, str], tmp_path: Path) -> None:
    with remote(server) as there, pytest.raises(ImageError, match="none"):
        there.start(run_of({**photos, "same": str(tmp_path / "none.png")}))
    assert server.sessions == 0


def test_the_server_says_why_it_has_failed(
    server: RemoteServerThread, photos: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ParameterError("a text with a path, which is nobody else's business")

    monkeypatch.setattr("hybridface.processes.hybrid.run_server", fail)
    with remote(server) as there, pytest.raises(RunError, match="match: .*could not go on; its own output says why$"):
        there.start(run_of(photos))


def test_a_busy_server_refuses(server: RemoteServerThread, photos: dict[str, str]) -> None:
    with remote(server) as there:
        server.is_busy = True
        with pytest.raises(QueryRefusedError, match="match: it is busy"):
            there.start(run_of(photos))


def test_the_network_is_the_named_one_the_gallerys_or_the_only_one(server: RemoteServerThread) -> None:
    with remote(server) as there:
        assert there.model.name == "tiny-test"
    with remote(server, "patchnet") as there, pytest.raises(Exception, match="no right to use 'patchnet'"):
        _ = there.model
    server.change("server.toml", "[models.tiny-test]", "[models.patchnet]\n[models.tiny-test]")
    server.change("clients/bank.toml", '"tiny-test"', '"tiny-test", "patchnet"')
    with remote(server) as there:
        with pytest.raises(ParameterError, match=r"expected --model with a network of match \(tiny-test, patchnet\)"):
            _ = there.model
        there.use_gallery("staff")
        assert there.model.name == "tiny-test"


def test_galleries_are_chosen_by_name(server: RemoteServerThread) -> None:
    with remote(server) as there:
        with pytest.raises(ParameterError, match=r"with the name of one \(guests, staff on match\), got none"):
            there.use_gallery(None)
        with pytest.raises(ParameterError, match="expected a gallery that this client may use .*, got 'other'"):
            there.use_gallery("other")
        there.use_gallery("staff")
        assert there.usual_key == server.identity / "keys" / "match" / "staff.key"
        there.expect_right(Right.VERIFY)
        with pytest.raises(ParameterError, match="the right to enroll in staff on match, which allows verify; ask"):
            there.expect_right(Right.ENROLL)


def test_a_run_of_no_mode(server: RemoteServerThread) -> None:
    class Odd(Run):
        mode = HybridRun.mode

    with remote(server) as there, pytest.raises(ParameterError, match="expected a run of hybrid or pure-HE mode"):
        there.start(Odd(model="tiny-test"))
