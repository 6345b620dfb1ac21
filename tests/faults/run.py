"""Break the code on purpose, one fault at a time, and see that the tests notice: `make test-faults`.

A fault is a table `[[fault]]` in a TOML file beside this one: what is wrong (`name`), the `file`, the text that stands
there once (`old`) and what it is replaced by (`new`), and the `tests` that are to fail. It is made in a copy of the
checkout; the checkout itself is left alone.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 600.0
_TESTS_FAILED = 1


@dataclass(frozen=True)
class Fault:
    """One way to break the code."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What the tests said: caught, missed, without an end, or that the fault is none (`broken`)."""

    fault: Fault
    verdict: str
    seconds: float
    by: str


def read_faults() -> list[Fault]:
    """Return all faults, in the order of the files."""
    tables = [
        table
        for path in sorted(Path(__file__).parent.glob("*.toml"))
        for table in tomllib.loads(path.read_text())["fault"]
    ]
    return [Fault(**{**table, "tests": tuple(table["tests"])}) for table in tables]


def copy_checkout(to: Path) -> None:
    """Copy what git tracks, and what it would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def try_fault(fault: Fault, folder: Path) -> Outcome:
    """Run a fault's tests in a copy of the checkout in which it is made."""
    path = folder / fault.file
    text = path.read_text() if path.is_file() else ""
    if text.count(fault.old) != 1:
        return Outcome(fault, "broken", 0.0, f"found the text {text.count(fault.old)} times")
    path.write_text(text.replace(fault.old, fault.new))
    start = time.monotonic()
    try:
        verdict, by = run_tests(fault.tests, folder)
    finally:
        path.write_text(text)
    return Outcome(fault, verdict, time.monotonic() - start, by)


def run_tests(tests: tuple[str, ...], folder: Path) -> tuple[str, str]:
    """Return a verdict, and the first test that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", "--no-header", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the processes that tests have started too
        process.communicate()
        return "no end", f"within {LIMIT_SECONDS:g} s"
    failed = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if process.returncode == _TESTS_FAILED and failed:
        return "caught", failed[0].split(" ", 1)[1].split(" - ")[0]
    return ("missed" if process.returncode == 0 else "broken"), " ".join(said.strip().splitlines()[-1:])


def check_without(faults: list[Fault]) -> None:
    """Run all tests of the faults without any of these; end the program if they do not pass."""
    tests = sorted({test for fault in faults for test in fault.tests})
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        verdict, by = run_tests(tuple(tests), Path(folder))
    if verdict != "missed":
        sys.exit(f"expected the tests to pass without a fault: {by}")


def run(faults: list[Fault], workers: int) -> list[Outcome]:
    """Try all faults, some at a time, and print each outcome."""
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    outcomes: list[Outcome] = []
    for fault in faults:
        waiting.put(fault)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy_checkout(Path(folder))
            while True:
                try:
                    fault = waiting.get_nowait()
                except queue.Empty:
                    return
                outcome = try_fault(fault, Path(folder))
                outcomes.append(outcome)
                print(f"{outcome.verdict:6} {outcome.seconds:5.0f} s  {fault.name}: {outcome.by}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the code on purpose, and see that the tests notice.")
    parser.add_argument("--only", help="faults whose name or file contains this")
    parser.add_argument("--workers", type=int, default=2, help="copies of the checkout at work at once (default: 2)")
    parser.add_argument("--json", type=Path, help="write the outcomes to a file")
    options = parser.parse_args()
    faults = [fault for fault in read_faults() if not options.only or options.only in f"{fault.name} {fault.file}"]
    check_without(faults)
    outcomes = run(faults, options.workers)
    if options.json:
        rows = [{"name": o.fault.name, "verdict": o.verdict, "seconds": o.seconds, "by": o.by} for o in outcomes]
        options.json.write_text(json.dumps(rows, indent=1))
    caught = sum(outcome.verdict == "caught" for outcome in outcomes)
    print(f"caught {caught} of {len(faults)} faults")
    return 0 if faults and caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
