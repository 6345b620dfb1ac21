"""Client, server and dealer as real MPI processes: results, every way to start them wrongly, and killed parties.

Whatever happens, all processes end soon, with an exit status and a line that say why.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from launch.mpiexec import find_mpiexec, mpiexec_command
from support.helpers import save_chips
from support.paths import ROOT

GUARD_SECONDS = 90.0
"""How long a run may take on a busy machine before it counts as hanging; nothing here waits so long for a peer."""

END_SECONDS = 10.0
"""How long the others may outlive a killed party."""

FAILED = (2, 9)
"""mpiexec's exit status when ranks abort: theirs, or 9 where it killed one of them before that one could end."""

MARK = "HYBRIDFACE_TEST"
PARTY = [sys.executable, "-m", "hybridface", "party"]
TINY = ["--model", "tiny-test"]


@dataclass
class Ranks:
    """A started computation, marked by an environment variable, by which its processes are found."""

    process: "subprocess.Popen[str]"
    mark: str
    seen: dict[int, str] = field(default_factory=dict)

    def look(self) -> dict[int, str]:
        """Return the command lines of this computation's processes by id, without zombies, which have none."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                        found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
        self.seen |= found
        return found

    def pid_of(self, role: str) -> int:
        (pid,) = [p for p, line in self.look().items() if f"hybridface party {role}" in line and "mpiexec" not in line]
        return pid

    def end(self, seconds: float = GUARD_SECONDS) -> tuple[int, str, str]:
        """Wait for the end; return exit status, standard output and standard error."""
        out, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, errors

    def left_after(self, seconds: float) -> dict[int, str]:
        """Return the processes that are still there, running or as zombies, after some seconds."""
        deadline = time.monotonic() + seconds
        while (left := self.look() | self._zombies()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _zombies(self) -> dict[int, str]:
        states = {}
        for pid in self.seen:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state == "Z":
                states[pid] = "zombie"
        return states


Start = Callable[..., Ranks]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs as MPI ranks; whatever is left of them at the end is killed."""
    started: list[Ranks] = []

    def begin(*programs: Sequence[str]) -> Ranks:
        mark = uuid.uuid4().hex
        process = subprocess.Popen(
            mpiexec_command(programs, find_mpiexec()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark},
        )
        started.append(Ranks(process, mark))
        return started[-1]

    yield begin
    for ranks in started:
        for pid in ranks.look():
            os.kill(pid, signal.SIGKILL)
        ranks.process.communicate(timeout=END_SECONDS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Aligned random chips for the tiny network: "a" and "same" match, "a" and "different" do not."""
    folder = tmp_path_factory.mktemp("chips with a space")
    paths = save_chips(folder, seed=2, name="{} 'é'.png")
    for name, size in {"large": 150, "grey": 200}.items():
        paths[name] = str(folder / f"{name}.png")
        Image.new("RGB", (size, size), (128, 128, 128)).save(paths[name])
    return paths


def client(*options: str, model: str = "tiny-test") -> list[str]:
    return [*PARTY, "client", *options, "--model", model]


def server(*options: str, model: str = "tiny-test") -> list[str]:
    return [*PARTY, "server", *options, "--model", model]


DEALT = ["--correlations", "dealer"]
DEALER = [*PARTY, "dealer", *DEALT]


def said(errors: str) -> list[str]:
    """Return the lines that our ranks wrote on standard error, without mpiexec's own."""
    assert "Traceback" not in errors, errors
    return [line for line in errors.splitlines() if line.startswith("hybridface")]


def answers(out: str) -> list[str]:
    """Return the lines that give a decision; what else there is on standard output comes from mpiexec."""
    return [line for line in out.splitlines() if "person" in line or "people" in line or "match" in line]


# What comes out


def test_an_enrolled_template_revealed_to_the_server(start: Start, photos: dict[str, str]) -> None:
    options = ["--reveal", "server", *DEALT]
    ranks = start(DEALER, client(photos["a"], photos["same"], "--aligned", "--enrolled", *options), server(*options))
    status, out, errors = ranks.end()
    assert (status, errors) == (0, "")
    assert out.splitlines()[0] == "not revealed to this party"
    assert "server: same person" in out.splitlines()


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


def test_a_pair_of_the_same_person(start: Start, photos: dict[str, str]) -> None:
    status, out, errors = start(client(photos["a"], photos["same"], "--aligned"), server()).end()
    assert (status, errors) == (0, "")
    assert answers(out) == ["same person"], "only the client says it"


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


# Server workers

WORKER = [*PARTY, "worker", *TINY]


@pytest.mark.parametrize(("other", "status"), [("same", 0), ("different", 1)])
def test_server_workers(start: Start, photos: dict[str, str], tmp_path: Path, other: str, status: int) -> None:
    cache = ["--cache", str(tmp_path)]
    ranks = start(
        client(photos["a"], photos[other], "--aligned", "--enrolled", "--batch", "2", "--repeat", "2"),
        server(*cache),
        *[[*WORKER, *cache]] * 2,
    )
    ended, out, errors = ranks.end()
    assert (ended, errors) == (status, "")
    assert answers(out) == ["different people" if status else "same person"] * 4
    assert len(list(tmp_path.glob("*.weights"))) == 1, "the workers share one file"
    assert ranks.left_after(END_SECONDS) == {}


def test_a_worker_without_its_weights_ends_all(start: Start, photos: dict[str, str]) -> None:
    worker = [*PARTY, "worker", "--weights", "/none/x.dat", "--model", "dlib-resnet29"]
    options = [photos["large"], photos["large"], "--aligned"]
    ranks = start(client(*options, model="dlib-resnet29"), server(model="dlib-resnet29"), worker)
    status, out, errors = ranks.end()
    assert status in FAILED
    assert not answers(out)
    lines = said(errors)
    assert any(line.startswith("hybridface worker: ") and "x.dat" in line for line in lines)
    assert "hybridface server: worker 0 ended: it could not go on; its own output says why" in lines
    assert sum("x.dat" in line for line in lines) == 1, "the file's name stays with the worker"


def test_a_worker_of_another_model(start: Start, photos: dict[str, str]) -> None:
    worker = [*PARTY, "worker", *TINY, "--reveal", "server"]
    status, out, errors = start(client(photos["a"], photos["same"], "--aligned"), server(), worker).end()
    assert status in FAILED
    assert not answers(out)
    expected = "hybridface server: the peers disagree on reveal: expected client, the worker 0 has server"
    assert expected in said(errors)


def test_a_damaged_calibration_is_told_without_its_folder(start: Start, photos: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"weight": "secret"}')
    ranks = start(client(photos["a"], photos["same"], "--aligned"), server("--cache", str(tmp_path)))
    status, _, errors = ranks.end()
    assert status in FAILED
    message = "calibration.json: expected calibrated times, repeat hybridface calibrate"
    lines = said(errors)
    assert f"hybridface server: {message}" in lines
    assert f"hybridface client: server ended: {message}" in lines
    assert not any(str(tmp_path) in line or "secret" in line for line in lines)


def test_a_session_that_ends_amid_a_refill_ends_in_peace(start: Start, photos: dict[str, str]) -> None:
    ranks = start(client(photos["a"], photos["same"], "--aligned", "--enrolled", "--pool", "9"), server())
    status, out, errors = ranks.end()
    assert (status, errors) == (0, "")
    assert answers(out) == ["same person"]


# Ranks that do not fit together


@pytest.mark.parametrize(
    "roles",
    [["client"], ["client", "server"], ["client", "server", "client"], ["client", "server", "dealer", "dealer"]],
    ids=lambda roles: "+".join(roles),
)
def test_wrong_ranks(start: Start, roles: list[str]) -> None:
    status, out, errors = start(*([*PARTY, role, *DEALT] for role in roles)).end()
    assert status == 2
    assert out == ""
    assert errors.splitlines() == [
        f"hybridface {roles[0]}: expected client, server, dealer and perhaps workers, got {len(roles)} ranks "
        f"({', '.join(roles)}); start them with mpiexec, see launch/"
    ]


def test_a_dealer_that_nobody_counts_on(start: Start) -> None:
    status, out, errors = start(client(), server(), [*PARTY, "dealer"]).end()
    assert (status, out) == (2, "")
    assert errors.splitlines() == [
        "hybridface client: expected client, server and perhaps workers, got 3 ranks (client, server, dealer); "
        "start them with mpiexec, see launch/; a dealer takes part with --correlations dealer alone"
    ]


def test_ranks_that_count_on_different_others(start: Start) -> None:
    status, out, errors = start(client(), server(*DEALT)).end()
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


def test_a_rank_that_cannot_start(start: Start, photos: dict[str, str]) -> None:
    ranks = start(client(photos["a"], photos["same"], "--aligned"), server("--no-such-option"))
    status, _, errors = ranks.end(30)
    assert status not in (0, 1)
    assert "No such option" in errors


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


ELSEWHERE = """
import sys
import parties.transport.mpi
from hybridface.commands.main import main

parties.transport.mpi.machine_id = lambda: b"elsewhere"[:8]
main()
"""


def test_a_simulated_network_between_machines_is_refused(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "elsewhere.py"
    program.write_text(ELSEWHERE)
    remote = [sys.executable, str(program), "party", "server", "--link", "wan", *DEALT]
    status, out, errors = start([*DEALER, "--link", "wan"], remote, client("--link", "wan", *DEALT)).end()
    assert (status, out) == (2, "")
    assert errors.splitlines() == [
        "hybridface dealer: expected all ranks on one machine to simulate wan, got several; between machines use none"
    ]


# Files that do not fit


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
    assert {line.split(":")[0] for line in said(errors)} == {f"hybridface {r}" for r in ("client", "server", "dealer")}


def test_a_photo_without_a_face(start: Start, photos: dict[str, str]) -> None:
    status, out, errors = start(client(photos["grey"], photos["a"], *DEALT), server(*DEALT), DEALER).end()
    assert status in FAILED
    assert not answers(out)
    lines = said(errors)
    assert "hybridface client: grey.png: expected one face, found 0" in lines
    assert "hybridface server: client ended: it could not go on; its own output says why" in lines
    assert sum("grey.png" in line for line in lines) == 1, "the photo's name stays with the client"
    assert "hybridface dealer: client ended: it could not go on; its own output says why" in lines


# Parties that die


@pytest.mark.parametrize("role", ["client", "server", "dealer", "worker"])
def test_a_killed_party_ends_all(start: Start, photos: dict[str, str], role: str) -> None:
    dealt = DEALT if role == "dealer" else []
    others = [DEALER] if role == "dealer" else [WORKER] if role == "worker" else []
    options = ["--aligned", "--events", "--repeat", "2000"]
    ranks = start(client(photos["a"], photos["same"], *options, *dealt), server(*dealt), *others)
    for line in ranks.process.stdout:
        if line.startswith('{"event": "result"'):
            break
    assert ranks.process.poll() is None
    assert len(ranks.look()) >= 3 + len(others), "mpiexec and the parties"
    os.kill(ranks.pid_of(role), signal.SIGKILL)
    status, out, errors = ranks.end(END_SECONDS)
    assert status not in (0, 1), "neither of the answers"
    assert ranks.left_after(END_SECONDS) == {}
    assert "Traceback" not in errors
    assert "decision" not in out


# A client that attacks

ATTACK = """
import sys, time
from parties.transport.mpi import join
from parties.transport.roles import Role

world = join(Role.CLIENT, required=(Role.CLIENT, Role.SERVER))
server = world.channel(Role.SERVER)
if sys.argv[1] == "junk":
    server.transport.send(bytes(range(256)))
elif sys.argv[1] == "too long":
    server.transport._start(bytes(1 << 26))
time.sleep(300)
"""

ANSWERS = {
    "junk": "terms/size from client: expected protocol version 2, got ",
    "too long": "expected at most 1024 bytes from client, got 67108864",
}


@pytest.mark.parametrize("attack", ANSWERS)
def test_a_client_that_sends_junk(start: Start, tmp_path: Path, attack: str) -> None:
    program = tmp_path / "attack.py"
    program.write_text(ATTACK)
    ranks = start([sys.executable, str(program), attack], server())
    status, out, errors = ranks.end()
    assert status in FAILED
    assert not answers(out)
    (line,) = [line for line in said(errors) if line.startswith("hybridface server: ")]
    assert line.removeprefix("hybridface server: ").startswith(ANSWERS[attack])
    assert line.isprintable()
    assert ranks.left_after(END_SECONDS) == {}
