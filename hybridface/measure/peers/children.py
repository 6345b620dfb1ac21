"""Start the processes of a peer, wait until a deadline for the JSON line of the first one, and end them all."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any

from hybridface.errors import RunError
from launch.mpiexec import ONE_THREAD

__all__ = ["run_pair"]

_POLL_SECONDS = 0.02
_NOISE = "Warning"


def run_pair(name: str, commands: Sequence[Sequence[str]], seconds: float) -> tuple[dict[str, Any], str]:
    """Run commands side by side until the first one ends.

    Args:
        name: the peer's name, for error messages.
        commands: the commands. The first one prints the result; the others are ended after it.
        seconds: the time until the deadline.

    Returns:
        the first command's last line, a JSON object, and everything that it printed.

    Raises:
        RunError: a process failed, the last line is not a JSON object, or the deadline passed.
    """
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in commands]
        noise = [stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in commands]
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, processes)
        for command, log, errors in zip(commands, logs, noise, strict=True):
            processes.append(_start(name, command, log, errors))
        failed = _wait(name, processes, time.monotonic() + seconds, seconds)
        if failed is not None:
            status = processes[failed].returncode
            raise RunError(f"{name}: process {failed} ended with status {status}{_last_line(noise[failed])}")
        logs[0].seek(0)
        said = logs[0].read()
    return _document(name, said), said


def _start(name: str, command: Sequence[str], log: IO[str], errors: IO[str]) -> "subprocess.Popen[bytes]":
    environment = os.environ | ONE_THREAD
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=errors, env=environment)
    except OSError as error:
        raise RunError(f"{name}: cannot start {command[0]}: {error.strerror}") from error


def _wait(name: str, processes: Sequence["subprocess.Popen[bytes]"], deadline: float, seconds: float) -> int | None:
    """Return None as soon as the first process has succeeded, or the index of a process that has failed."""
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if codes[0] == 0:
            return None
        for index, code in enumerate(codes):
            if code:
                return index
        time.sleep(_POLL_SECONDS)
    raise RunError(f"{name}: expected a result within {seconds:g} s, got none")


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip() and _NOISE not in line]
    return f": {lines[-1]}" if lines else ""


def _document(name: str, said: str) -> dict[str, Any]:
    try:
        document = json.loads((said.splitlines() or [""])[-1])
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RunError(f"{name}: expected a JSON object as the last line, got none")
    return document
