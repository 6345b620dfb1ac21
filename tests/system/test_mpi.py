"""The few tests that start client, server and others as real MPI processes; all else starts ranks as threads.

They are about processes: that `mpiexec` starts them, that results and errors come out of them, and that all end soon,
whatever happens to one. What ranks say to each other is tested in `tests/hybridface/processes`.
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

from launch.mpiexec import find_mpiexec, mpiexec_command
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
    server,
)

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
def test_a_killed_party_ends_all(start: Start, photos: dict[str, str], role: str) -> None:
    others = [WORKER] if role == "worker" else []
    options = ["--aligned", "--events", "--repeat", "2000"]
    ranks = start(client(photos["a"], photos["same"], *options), server(), *others)
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


def test_the_command_line_starts_them_and_says_what_each_took(photos: dict[str, str], tmp_path: Path) -> None:
    """From a folder with files that are named as what the ranks import: none of them is run."""
    for module in ("PIL", "hybridface", "numpy", "pickle", "torch"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('a file of the current folder was run')\n")
    program = Path(sys.executable).with_name("hybridface")
    done = subprocess.run(
        [program, "verify", photos["a"], photos["same"], "--aligned", "--json", *TINY],
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
    peaks = document["peak_bytes"]
    assert sorted(peaks) == ["client", "server"]
    assert all(1e8 < peak < 2e9 for peak in peaks.values())
    assert peaks["client"] != peaks["server"], "of two processes"
