"""What ends a command: signals, at any moment, with one line and nothing left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hybridface.signals import Interrupted, cleaning_up
from launch.mpiexec import python_module
from support.paths import ROOT
from support.tiny_network import save_people

pytestmark = pytest.mark.slow

END_SECONDS = 20.0
"""How long an end may take on a busy machine; a command itself ends within a second."""

SAID = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal was closed",
    signal.SIGQUIT: "quit",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a command that keeps its temporary files in a folder of the test's own."""
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def started() -> "Iterator[list[subprocess.Popen[str]]]":
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def hears_signals(process: "subprocess.Popen[str]") -> bool:
    """Return whether a process has said what SIGTERM does; Python itself does not."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    ("number", "after"),
    [
        *((signal.SIGINT, after) for after in (0.0, 0.3, 1.0, 2.0, 4.0)),
        *((signal.SIGTERM, after) for after in (0.5, 2.5, 4.5)),
        (signal.SIGHUP, 3.0),
        (signal.SIGQUIT, 3.0),
    ],
)
def test_a_signal_ends_a_command_and_all_that_it_has_started(
    environment: dict[str, str],
    started: "list[subprocess.Popen[str]]",
    tmp_path: Path,
    number: signal.Signals,
    after: float,
) -> None:
    command = python_module("hybridface", "bench", "verify", "--model", "tiny-test", "--runs", "2000", "--quiet")
    if number is signal.SIGTERM:  # with tasks and faces in a temporary folder
        people = save_people(tmp_path / "people", 300)
        gallery = ["--gallery", str(tmp_path / "g"), "--key", str(tmp_path / "k"), "--model", "tiny-test"]
        command = python_module("hybridface", "import", str(people), "--aligned", *gallery)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    started.append(process)
    while not hears_signals(process):
        time.sleep(0.005)
    time.sleep(after)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(number)
    _, errors = process.communicate(timeout=END_SECONDS)
    lines = [line for line in errors.splitlines() if "new key" not in line and "stopped after" not in line]
    assert (process.returncode, lines) == (128 + number, [f"hybridface: {SAID[number]}"])
    assert psutil.wait_procs(children, timeout=END_SECONDS)[1] == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_command_has_not_asked_for_stays() -> None:
    """In a program that uses the library, signals do what the program wants."""
    before = signal.getsignal(signal.SIGINT)
    with cleaning_up():
        assert signal.getsignal(signal.SIGINT) == before


TWICE = """
import os, signal, tempfile, time
from pathlib import Path
from hybridface.folders import temporary_folder
from hybridface.signals import Interrupted, cleaning_up, end, end_on_signals
end_on_signals()
try:
    with temporary_folder() as folder:
        try:
            with cleaning_up():
                os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            print(folder, flush=True)
except Interrupted as interrupted:
    print(folder.exists(), flush=True)
    end(interrupted)
"""


def test_a_second_signal_does_not_disturb_the_end(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[1:]) == (130, ["False"])


LATER = """
import os, signal
from hybridface.signals import deferred, end_on_signals
end_on_signals()
with deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    print("done", flush=True)
print("after", flush=True)
"""


def test_a_signal_can_wait(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATER], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "done\n", "hybridface: terminated\n")


def test_what_a_command_is_to_ignore_it_ignores(environment: dict[str, str]) -> None:
    """As under `nohup`, which lets a long command outlive its terminal."""
    program = "import os, signal\nfrom hybridface.signals import end_on_signals\nend_on_signals()\n"
    program += "os.kill(os.getpid(), signal.SIGHUP); print('on', flush=True); os.kill(os.getpid(), signal.SIGTERM)"
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (143, "on\n")


WORKERS = """
import signal, sys, time
from pathlib import Path
import numpy as np
from hybridface.faces.rows import RowField, Rows, fill
from hybridface.signals import Interrupted, end, end_on_signals
import time_taker
if __name__ == "__main__":
    end_on_signals()
    rows = Rows(Path(sys.argv[1]), 100, {"x": RowField("float64", (1,))})
    try:
        fill(rows, range(100), lambda row: row, time_taker.take, 2, "", False)
    except Interrupted as interrupted:
        end(interrupted)
"""


def test_workers_end_in_silence(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "time_taker.py").write_text(
        "import time\ndef take(row):\n    print('began', flush=True)\n    time.sleep(60)\n"
    )
    (tmp_path / "program.py").write_text(WORKERS)
    environment["PYTHONPATH"] += f":{tmp_path}"
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "rows")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "began\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, errors) == (130, "hybridface: interrupted\n")


SWALLOWS = """
import os, signal, time
from hybridface.signals import cleaning_up, end_on_signals
end_on_signals()
try:
    with cleaning_up():
        os.kill(os.getpid(), signal.SIGINT)
except BaseException as error:
    print(type(error).__name__, flush=True)
time.sleep(60)
"""


def test_an_end_that_is_swallowed_comes_all_the_same(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWS], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (130, f"{Interrupted.__name__}\n")
    assert done.stderr == "hybridface: interrupted\n"


SLOW_LIBRARY = """
import os, signal, time
from hybridface.signals import Interrupted, cleaning_up, end, end_on_signals
end_on_signals()
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(5)
slow = Slow()
try:
    with cleaning_up():
        os.kill(os.getpid(), signal.SIGTERM)
except Interrupted as interrupted:
    print("said", end="")
    end(interrupted)
"""


def test_a_slow_end_of_python_does_not_change_the_exit_status(environment: dict[str, str]) -> None:
    """Python resets the handler of the timer before it removes modules; the timer would kill the process then."""
    done = subprocess.run(
        [sys.executable, "-c", SLOW_LIBRARY], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "said", "hybridface: terminated\n")
