"""`hybridface.connect`: the methods of a session within one process, with a server over the network."""

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybridface as hf
from hybridface.local.session import LocalSession
from hybridface.modes import Mode
from hybridface.processes.runs import PreparationRun
from hybridface.remote.session import RemoteSession
from hybridface.remote.start import RemoteServer
from support.remote_server import NAME, RemoteServerThread, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RemoteServerThread]:
    with serving(tmp_path, "tiny-test") as running:
        yield running


def connected(server: RemoteServerThread, **options: object) -> RemoteSession:
    session = hf.connect(NAME, identity=server.identity, **options)  # type: ignore[arg-type]
    assert isinstance(session, RemoteSession)
    return session


@pytest.mark.filterwarnings("ignore:match. first use")
def test_a_session_compares_enrols_and_prepares(server: RemoteServerThread, photos: dict[str, str]) -> None:
    stages = []
    with connected(server, on_progress=stages.append) as session:
        assert session.described.server == "match.example.org"
        assert session.verify(photos["a"], photos["same"], aligned=True).match is True
        session.prepare(1, 0)
        template = session.enroll(photos["a"], "Ann", aligned=True)
        batch = session.verify_batch([photos["same"], photos["different"]], template, aligned=True)
        assert (template.name, batch.matches) == ("Ann", (True, False))
        session.prepare(1)
        result = session.verify(photos["different"], template, aligned=True)
        assert (result.match, result.was_prepared) == (False, True)
        assert result.cost.online.elapsed_seconds > 0
    assert (server.sessions, server.errors) == (1, [])
    assert {stage.phase for stage in stages} == {"start", "offline", "online"}


def test_the_methods_are_those_of_a_session_within_one_process() -> None:
    for name in ("prepare", "verify", "verify_batch", "enroll"):
        here, remote = (inspect.signature(getattr(one, name)) for one in (LocalSession, RemoteSession))
        assert here == remote, name


@pytest.mark.filterwarnings("ignore:match. first use")
def test_an_unused_session_holds_nothing(server: RemoteServerThread, tmp_path: Path) -> None:
    with connected(server) as session:
        (asked,) = server.open
        asked._keeper.join(10)
        assert not asked._keeper.is_alive()
        with pytest.raises(hf.ImageError, match="none"):
            session.verify(tmp_path / "none.png", tmp_path / "none.png")
        assert server.sessions == 0


def test_the_first_use_of_a_network_pins_it(server: RemoteServerThread) -> None:
    with connected(server) as session, pytest.warns(UserWarning, match="match: first use of its network tiny-test"):
        assert session.model.name == "tiny-test"
    with connected(server) as session, warnings.catch_warnings(action="error"):
        assert session.model.weights is None


@pytest.mark.filterwarnings("ignore:match. first use")
def test_a_lost_server_ends_the_session(server: RemoteServerThread, photos: dict[str, str]) -> None:
    pair = photos["a"], photos["same"]
    with connected(server, timeout=5) as session:
        session.verify(*pair, aligned=True)
        server.cut()
        with pytest.raises(hf.RunError, match="match: "):
            session.verify(*pair, aligned=True)
        with pytest.raises(hf.RunError, match="open a new one"):
            session.verify(*pair, aligned=True)


@pytest.mark.filterwarnings("ignore:match. first use")
def test_a_refusal_says_when_to_try_again(server: RemoteServerThread, photos: dict[str, str]) -> None:
    server.is_busy = True
    with connected(server) as session:
        with pytest.raises(hf.QueryRefusedError, match="busy with 4 sessions") as refusal:
            session.verify(photos["a"], photos["same"], aligned=True)
        assert refusal.value.retry_after_seconds == 7
        server.is_busy = False
        assert session.verify(photos["a"], photos["different"], aligned=True).match is False


@pytest.mark.filterwarnings("ignore:match. first use")
def test_the_decision_may_be_the_servers(server: RemoteServerThread, photos: dict[str, str]) -> None:
    with connected(server, reveal="server", correlations="ot-iknp") as session:
        assert session.verify(photos["a"], photos["same"], aligned=True).match is None


@pytest.mark.filterwarnings("ignore:match. first use")
def test_runs_that_a_command_has_prepared_are_used(
    server: RemoteServerThread, photos: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    with RemoteServer(NAME, server.identity, lambda text: None) as remote:
        kept = remote.start(PreparationRun(model="tiny-test", prepared=folder, count=1)).kept
    assert len(kept) == 1
    with connected(server, prepared=folder) as session:
        found = [session.verify(photos["a"], photos["same"], aligned=True).was_prepared for _ in range(2)]
    assert found == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "clear"}, "expected a mode hybrid or pure-he, got 'clear'"),
        ({"reveal": "nobody"}, "expected to reveal to .*, got 'nobody'"),
        ({"correlations": "dealer"}, "expected correlations from ot or ot-iknp, got 'dealer'"),
        ({"max_answers": 3}, "expected no option max_answers"),
        ({"mode": Mode.PURE_HE, "pool": 1}, "expected no option pool"),
        ({"mode": Mode.PURE_HE, "max_answers": 1001}, "expected 1 to 1000 answers"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(hf.ParameterError, match=message):
        hf.connect(NAME, identity=tmp_path, **options)  # type: ignore[arg-type]


def test_a_session_must_be_open(tmp_path: Path) -> None:
    session = hf.connect(NAME, identity=tmp_path)
    with pytest.raises(hf.ModelError, match="use `with hybridface.connect"):
        session.verify("a.jpg", "b.jpg")
    with pytest.raises(hf.ConfigurationError, match="expected a known server, got 'match'; known are: none"), session:
        pass
