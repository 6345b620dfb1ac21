"""Run a benchmark's own ranks by `mpiexec`, and return what they wrote as JSON lines."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from hybridface.errors import RunError
from launch.mpiexec import find_mpiexec, mpiexec_command, python_module
from protocols.errors import UNTOLD

__all__ = ["run_ranks"]

_MPI_ENDS = "Abort("


def run_ranks(module: str, programs: Sequence[Sequence[str]], timeout: float) -> list[dict[str, Any]]:
    """Run a rank of `python -m module` for each list of arguments, and return the JSON objects that they wrote.

    Args:
        timeout: seconds for all of it.

    Raises:
        RunError: a rank failed, or they did not end in time.
    """
    ranks = [python_module(module, *arguments) for arguments in programs]
    try:
        done = subprocess.run(
            mpiexec_command(ranks, find_mpiexec()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise RunError(str(error)) from error
    except subprocess.TimeoutExpired as error:  # whose own text is the whole command line, paths and all
        raise RunError(f"expected the ranks to end within {timeout:g} s, they did not") from error
    if done.returncode:
        raise RunError(f"a rank failed with exit status {done.returncode}: {_reason(done.stderr)}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _reason(errors: str) -> str:
    """Return the last line that says why: not MPI's own, nor of a rank that ended because another one did."""
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith(_MPI_ENDS)]
    lines.sort(key=lambda line: not line.endswith(UNTOLD))
    return lines[-1] if lines else "it said nothing"
