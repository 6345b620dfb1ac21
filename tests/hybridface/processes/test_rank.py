"""Ranks from start to end: who says what, every way to start them wrongly, and files that do not fit.

Ranks are threads here (see `support.ranks`); `tests/system/test_mpi.py` has the same as processes.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hybridface.models.model import Model
from support import ranks as ranks_module
from support.rank_programs import (
    DEALER,
    DEALT,
    FAILED,
    PARTY,
    TINY,
    WORKER,
    answers,
    client,
    expect_no_face,
    odd_photos,
    said,
    server,
)
from support.ranks import Ranks, ranks_in_threads

pytestmark = pytest.mark.slow

Start = Callable[..., Ranks]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs as ranks; whatever is left of them at the end is ended."""
    with ExitStack() as stack:

        def begin(*programs: list[str]) -> Ranks:
            stack.enter_context(ranks_in_threads())
            return stack.enter_context(Ranks.of(programs))

        yield begin


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return odd_photos(tmp_path_factory.mktemp("chips with a space"))


def test_parties_decide_by_a_threshold_that_both_have(start: Start, photos: dict[str, str]) -> None:
    pair, strict = (photos["a"], photos["same"], "--aligned"), ("--threshold", "1e-3")
    assert start(client(*pair), server()).end()[0] == 0
    assert start(client(*pair, *strict), server(*strict)).end()[0] == 1
    status, out, errors = start(client(*pair), server(*strict)).end()
    assert (status in FAILED, answers(out)) == (True, [])
    assert "hybridface client: the peers disagree on threshold: expected 0.6, the server has 0.001" in errors


@pytest.mark.parametrize("threshold", ["0", "-1", "nan", "16384"])
def test_a_threshold_out_of_range(start: Start, photos: dict[str, str], threshold: str) -> None:
    given = ("--threshold", threshold)
    status, out, errors = start(client(photos["a"], photos["same"], "--aligned", *given), server(*given)).end()
    assert (status in FAILED, answers(out)) == (True, [])
    assert "expected a threshold above 0 and below 16384, got" in errors


def test_a_pair_revealed_to_both(start: Start, photos: dict[str, str]) -> None:
    options = ["--reveal", "both"]
    ranks = start(server(*options), client(photos["a"], photos["different"], "--aligned", *options))
    status, out, errors = ranks.end()
    assert (status, errors) == (1, "")
    lines = out.splitlines()
    assert "different people" in lines
    assert "server: different people" in lines
    assert "same person" not in out
    online = [line.split() for line in lines if line.split()[:1] == ["total"]][1]
    assert float(online[4]) > 0.01, "megabytes from the client"
    assert int(online[-1]) > 20, "rounds"


def test_only_the_servers_ranks_ask_for_weights(
    start: Start, photos: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, bool] = {}
    load = ranks_module.load_model

    def watched(name: str, weights: bool, path: Path | None) -> Model:
        asked[threading.current_thread().rank.program[len(PARTY)]] = weights  # type: ignore[attr-defined]
        return load(name, weights, path)

    monkeypatch.setattr(ranks_module, "load_model", watched)
    ranks = start(client(photos["a"], photos["same"], "--aligned", *DEALT), server(*DEALT), DEALER, [*WORKER, *DEALT])
    assert ranks.end()[0] == 0
    assert asked == {"client": False, "server": True, "worker": True}


def test_a_simulated_network_gives_the_same_answer_and_takes_its_time(start: Start, photos: dict[str, str]) -> None:
    shape = ["--link", "wan", *DEALT]
    ranks = start(
        client(photos["a"], photos["different"], "--aligned", "--events", *shape), server(*shape), [*DEALER, *shape]
    )
    status, out, errors = ranks.end()
    assert (status, errors) == (1, "")
    (result,) = [event for line in out.splitlines() if (event := json.loads(line))["event"] == "result"]
    assert result["match"] is False
    online = result["cost"]["online"]
    assert online["rounds"] > 20
    assert online["elapsed_seconds"] > online["rounds"] / 2 * 0.04, "at least every second flight is waited for"


def test_a_worker_without_its_weights_ends_all(start: Start, photos: dict[str, str]) -> None:
    worker = [*PARTY, "worker", "--weights", "/none/x.dat", "--model", "dlib-resnet29"]
    options = [photos["large"], photos["large"], "--aligned"]
    ranks = start(client(*options, model="dlib-resnet29"), server(model="dlib-resnet29"), worker)
    status, out, errors = ranks.end()
    assert status in FAILED
    assert not answers(out)
    (line,) = said(errors)
    assert line.startswith("hybridface worker: cannot read model file"), "before it joins the others"


def test_a_worker_of_another_model(start: Start, photos: dict[str, str]) -> None:
    worker = [*PARTY, "worker", *TINY, "--reveal", "server"]
    status, out, errors = start(client(photos["a"], photos["same"], "--aligned"), server(), worker).end()
    assert status in FAILED
    assert not answers(out)
    expected = "hybridface server: the peers disagree on reveal: expected client, the worker 0 has server"
    assert expected in said(errors)


def test_a_damaged_calibration_is_told_at_home(start: Start, photos: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"weight": "secret"}')
    ranks = start(client(photos["a"], photos["same"], "--aligned"), server("--cache", str(tmp_path)))
    status, _, errors = ranks.end()
    assert status in FAILED
    message = "calibration.json: expected calibrated times; run hybridface calibrate again"
    lines = said(errors)
    assert f"hybridface server: {message}" in lines
    assert "hybridface client: server ended: it could not go on; its own output says why" in lines
    assert not any(str(tmp_path) in line or "secret" in line for line in lines)


def test_a_session_that_ends_amid_a_refill_ends_in_peace(start: Start, photos: dict[str, str]) -> None:
    ranks = start(client(photos["a"], photos["same"], "--aligned", "--enrolled", "--pool", "9"), server())
    status, out, errors = ranks.end()
    assert (status, errors) == (0, "")
    assert answers(out) == ["same person"]


@pytest.mark.parametrize(
    "roles",
    [["client"], ["client", "server"], ["client", "server", "client"], ["client", "server", "dealer", "dealer"]],
    ids=lambda roles: "+".join(roles),
)
def test_wrong_ranks(start: Start, photos: dict[str, str], roles: list[str]) -> None:
    own = {"client": [*TINY, photos["a"], photos["same"], "--aligned"], "server": TINY}
    status, out, errors = start(*([*PARTY, role, *DEALT, *own.get(role, [])] for role in roles)).end()
    assert status == 2
    assert out == ""
    assert errors.splitlines() == [
        f"hybridface {roles[0]}: expected client, server, dealer and perhaps workers, got {len(roles)} ranks "
        f"({', '.join(roles)}); start them with mpiexec, see launch/"
    ]


def test_a_dealer_that_nobody_counts_on(start: Start, photos: dict[str, str]) -> None:
    status, out, errors = start(client(photos["a"], photos["a"], "--aligned"), server(), [*PARTY, "dealer"]).end()
    assert (status, out) == (2, "")
    assert errors.splitlines() == [
        "hybridface client: expected client, server and perhaps workers, got 3 ranks (client, server, dealer); "
        "start them with mpiexec, see launch/; a dealer takes part only with --correlations dealer"
    ]


def test_ranks_that_count_on_different_others(start: Start, photos: dict[str, str]) -> None:
    status, out, errors = start(client(photos["a"], photos["a"], "--aligned"), server(*DEALT)).end()
    assert (status, out) == (2, "")
    assert errors.splitlines() == [
        "hybridface client: expected the same --mode and --correlations for all ranks, "
        "got client: client, server; server: client, server, dealer"
    ]


def test_ranks_that_make_correlations_differently(start: Start, photos: dict[str, str]) -> None:
    ranks = start(client(photos["a"], photos["same"], "--aligned"), server("--correlations", "ot-iknp"))
    status, _, errors = ranks.end()
    assert status in FAILED
    assert any("the peers disagree on correlations: expected ot" in line for line in said(errors))


def test_different_models(start: Start, photos: dict[str, str]) -> None:
    options = [photos["large"], photos["large"], "--aligned"]
    status, out, errors = start(client(*options, model="dlib-resnet29"), server()).end()
    assert status in FAILED
    assert not answers(out)
    lines = said(errors)
    for role, peer in (("client", "server"), ("server", "client")):
        start_of_line = f"hybridface {role}: the peers disagree on model: expected "
        (line,) = [line for line in lines if line.startswith(start_of_line)]
        assert f"the {peer} has " in line


def test_different_networks(start: Start, photos: dict[str, str]) -> None:
    options = [photos["a"], photos["same"], "--aligned", "--link", "lan"]
    status, out, errors = start(client(*options, *DEALT), server("--link", "wan", *DEALT), DEALER).end()
    assert status == 2
    assert not answers(out)
    expected = "hybridface client: expected the same --link for all ranks, got client: lan; server: wan; dealer: none"
    assert errors.splitlines() == [expected]


def test_a_simulated_network_between_machines_is_refused(
    start: Start, photos: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [photos["a"], photos["a"], "--aligned"]
    here = [b"machine1", b"elsewher", b"machine1"]
    monkeypatch.setattr("parties.transport.mpi.machine_id", lambda: here[threading.current_thread().rank.number])
    status, out, errors = start(
        [*DEALER, "--link", "wan"], server("--link", "wan", *DEALT), client(*shown, "--link", "wan", *DEALT)
    ).end()
    assert (status, out) == (2, "")
    assert errors.splitlines() == [
        "hybridface dealer: expected all ranks on one machine to simulate wan, got several; between machines use none"
    ]


def test_a_missing_weight_file(start: Start, photos: dict[str, str]) -> None:
    options = [photos["large"], photos["large"], "--aligned"]
    ranks = start(
        client(*options, *DEALT, model="dlib-resnet29"),
        server("--weights", "/none/x.dat", *DEALT, model="dlib-resnet29"),
        DEALER,
    )
    status, out, errors = ranks.end()
    assert status in FAILED
    assert not answers(out)
    (line,) = [line for line in said(errors) if line.startswith("hybridface server: ")]
    assert "x.dat" in line
    assert said(errors) == [line], "nobody else has begun"


def test_a_photo_without_a_face(start: Start, photos: dict[str, str]) -> None:
    expect_no_face(*start(client(photos["grey"], photos["a"], *DEALT), server(*DEALT), DEALER).end())


ATTACK = """
from parties.transport.mpi import join
from parties.transport.roles import Role

world = join(Role.CLIENT, required=(Role.CLIENT, Role.SERVER))
server = world.channel(Role.SERVER)
server.transport._start({message})
while True:
    server.transport.receive(1 << 20)
"""

ATTACKS = {
    "bytes(range(256))": "terms/size from client: expected protocol version 3, got ",
    "bytes(1 << 26)": "expected at most 1024 bytes from client, got 67108864",
}


@pytest.mark.parametrize("message", ATTACKS)
def test_a_client_that_sends_junk(start: Start, tmp_path: Path, message: str) -> None:
    program = tmp_path / "attack.py"
    program.write_text(ATTACK.format(message=message))
    status, out, errors = start([sys.executable, str(program)], server()).end()
    assert status in FAILED
    assert not answers(out)
    (line,) = [line for line in said(errors) if line.startswith("hybridface server: ")]
    assert line.removeprefix("hybridface server: ").startswith(ATTACKS[message])
    assert line.isprintable()
