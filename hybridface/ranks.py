"""Run a benchmark's own ranks by `mpiexec`, and return what they wrote as JSON lines."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from hybridface.errors import RunError
from launch.mpiexec import find_mpiexec, mpiexec_command

__all__ = ["run_ranks"]


def run_ranks(module: str, programs: Sequence[Sequence[str]], timeout: float) -> list[dict[str, Any]]:
    """Run a rank of `python -m module` for each list of arguments, and return the JSON objects that they wrote.

    Args:
        timeout: seconds for all of it.

    Raises:
        RunError: a rank failed, or they did not end in time.
    """
    ranks = [[sys.executable, "-m", module, *arguments] for arguments in programs]
    try:
        done = subprocess.run(
            mpiexec_command(ranks, find_mpiexec()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise RunError(f"expected the ranks to end: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise RunError(f"a rank failed with exit status {done.returncode}: {last}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
