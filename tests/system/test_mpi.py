"""The few tests that start client, server and others as real MPI processes; all else starts ranks as threads.

They are about processes: that `mpiexec` starts them, that results and errors come out of them, that all end soon,
whatever happens to one, and that nobody can reach them. What ranks say to each other is tested in
`tests/hybridface/processes`.
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

import psutil
import pytest

from launch.mpiexec import find_mpiexec, python_module
from support.paths import ROOT
from support.rank_programs import (
    DEALER,
    DEALT,
    TINY,
    WORKER,
    answers,
    client,
    expect_no_face,
    odd_photos,
    said,
    server,
)
from support.tiny_network import save_people

pytestmark = pytest.mark.slow

GUARD_SECONDS = 90.0
"""How long a run may take on a busy machine before it counts as hanging; nothing here waits so long for a peer."""

END_SECONDS = 10.0
"""How long the others may outlive a killed party."""

MARK = "HYBRIDFACE_TEST"


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

    def wait_for(self, program: str) -> None:
        """Wait until a rank has been started."""
        deadline = time.monotonic() + GUARD_SECONDS
        while not any(program in line and "mpiexec" not in line for line in self.look().values()):
            assert time.monotonic() < deadline, f"no {program}"
            time.sleep(0.05)

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
Commands = Callable[..., Ranks]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs as MPI ranks; whatever is left of them at the end is killed."""
    started: list[Ranks] = []

    def begin(*programs: Sequence[str]) -> Ranks:
        mpiexec = Path(find_mpiexec()).with_name("mpiexec")  # which users start, also between machines
        command = [str(mpiexec), "-launcher", "fork", "-genv", "OMP_NUM_THREADS", "1"]
        for number, program in enumerate(programs):
            command += [":"] * (number > 0) + ["-n", "1", *program]
        started.append(begun(command))
        return started[-1]

    yield begin
    end(started)


@pytest.fixture
def commands() -> Iterator[Commands]:
    """Start commands; whatever is left of them at the end is killed."""
    started: list[Ranks] = []

    def begin(*arguments: str) -> Ranks:
        started.append(begun(python_module("hybridface", *arguments, "--quiet")))
        return started[-1]

    yield begin
    end(started)


def begun(command: Sequence[str]) -> Ranks:
    """Start a command, marked."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", MARK: mark},
    )
    return Ranks(process, mark)


def end(started: Sequence[Ranks]) -> None:
    for ranks in started:
        for pid in ranks.look():
            os.kill(pid, signal.SIGKILL)
        ranks.process.communicate(timeout=END_SECONDS)


def shared_memory(pid: int) -> list[str]:
    """Return the names of the memory that a rank shares with others by MPI."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line[line.index("/") :] for line in lines if "/mpich_shm_" in line]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return odd_photos(tmp_path_factory.mktemp("chips with a space"))


def test_an_enrolled_template_revealed_to_the_server(start: Start, photos: dict[str, str]) -> None:
    options = ["--reveal", "server", *DEALT]
    ranks = start(DEALER, client(photos["a"], photos["same"], "--aligned", "--enrolled", *options), server(*options))
    status, out, errors = ranks.end()
    assert (status, errors) == (0, "")
    assert out.splitlines()[0] == "not revealed to this party"
    assert "server: same person" in out.splitlines()


def test_server_workers(start: Start, photos: dict[str, str], tmp_path: Path) -> None:
    cache = ["--cache", str(tmp_path)]
    ranks = start(
        client(photos["a"], photos["different"], "--aligned", "--enrolled", "--batch", "2", "--repeat", "2"),
        server(*cache),
        *[[*WORKER, *cache]] * 2,
    )
    ended, out, errors = ranks.end()
    assert (ended, errors) == (1, "")
    assert answers(out) == ["different people"] * 4
    assert len(list(tmp_path.glob("*.weights"))) == 1, "the workers share one file"
    assert ranks.left_after(END_SECONDS) == {}


def test_a_rank_that_cannot_start(start: Start, photos: dict[str, str]) -> None:
    ranks = start(client(photos["a"], photos["same"], "--aligned"), server("--no-such-option"))
    status, _, errors = ranks.end(30)
    assert status not in (0, 1)
    assert "No such option" in errors


def test_a_photo_without_a_face(start: Start, photos: dict[str, str]) -> None:
    expect_no_face(*start(client(photos["grey"], photos["a"], *DEALT), server(*DEALT), DEALER).end())


@pytest.mark.parametrize("role", ["client", "worker"])
def test_a_killed_party_is_named_and_ends_all(commands: Commands, role: str) -> None:
    ranks = commands("bench", "verify", *TINY, "--runs", "2000", "--workers", "1")
    ranks.wait_for("party worker")
    time.sleep(2)
    os.kill(ranks.pid_of(role), signal.SIGKILL)
    status, out, errors = ranks.end()
    assert (status, out) == (2, "")
    assert errors.splitlines() == [f"hybridface: {role} ended unexpectedly (Killed)"]
    assert ranks.left_after(END_SECONDS) == {}


def test_a_stopped_party_is_named_and_ends_all(commands: Commands, tmp_path: Path) -> None:
    people = save_people(tmp_path / "people", 300)
    gallery = ["--gallery", str(tmp_path / "gallery"), "--key", str(tmp_path / "key"), "--timeout", "15"]
    ranks = commands("import", str(people), "--aligned", *TINY, *gallery)
    ranks.wait_for("party server")
    time.sleep(2)
    pid = ranks.pid_of("server")
    os.kill(pid, signal.SIGSTOP)
    status, _, errors = ranks.end()
    assert status == 2
    line = errors.splitlines()[-1]
    assert line.startswith("hybridface: client: expected ")
    assert line.endswith(f" within 15 s, got none (the server's process {pid} is stopped)")
    assert ranks.left_after(END_SECONDS) == {}


def test_nobody_can_connect_and_no_shared_memory_stays(commands: Commands) -> None:
    """Ranks of one machine listen on no port, and their shared memory has no name any more once they have joined."""
    ranks = commands("bench", "verify", *TINY, "--runs", "2000")
    ranks.wait_for("party server")
    deadline = time.monotonic() + GUARD_SECONDS
    while not (shared := shared_memory(ranks.pid_of("server"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    while not all(name.endswith("(deleted)") for name in shared) and time.monotonic() < deadline:
        time.sleep(0.05)
        shared = shared_memory(ranks.pid_of("server"))
    assert shared
    assert all(name.endswith("(deleted)") for name in shared)
    for pid in ranks.look():
        assert not [one for one in psutil.Process(pid).net_connections() if one.status == psutil.CONN_LISTEN]


@pytest.mark.parametrize(
    "attack",
    [
        "never starts MPI",
        "never joins",
        "exits without a word",
        "stops in the session",
        "does not leave",
        "does not end MPI",
    ],
)
def test_a_rank_that_does_not_play_along(start: Start, photos: dict[str, str], attack: str) -> None:
    """The honest client ends by itself, and gives no decision that it has not computed."""
    hostile = [sys.executable, "-m", "support.hostile_rank", attack]
    ranks = start(client(photos["a"], photos["same"], "--aligned", "--timeout", "15"), hostile)
    status, out, errors = ranks.end()
    if attack == "exits without a word":  # then mpiexec ends the client at once, with the others' exit status
        assert (answers(out), said(errors)) == ([], [])
    elif attack in ("does not leave", "does not end MPI"):
        assert (status, answers(out)) == (2, ["same person"])
        assert said(errors) == ["hybridface client: expected every rank to end within 15 s, got none"]
    else:
        (line,) = said(errors)
        assert status != 1
        assert (status != 0, answers(out)) == (True, [])
        assert line.startswith("hybridface client: expected ")
        assert line.endswith(" within 15 s, got none")


def test_the_command_line_starts_them_and_says_what_each_took(photos: dict[str, str], tmp_path: Path) -> None:
    """From a folder with files that are named as what the ranks import: none of them is run."""
    for module in ("PIL", "hybridface", "numpy", "pickle", "torch"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('a file of the current folder was run')\n")
    program = Path(sys.executable).with_name("hybridface")
    done = subprocess.run(
        [program, "verify", photos["a"], photos["same"], "--aligned", "--json", "--costs", *TINY],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["match"] is True
    peaks = document["costs"]["peak_bytes"]
    assert sorted(peaks) == ["client", "server"]
    assert all(1e8 < peak < 2e9 for peak in peaks.values())
    assert peaks["client"] != peaks["server"], "of two processes"
