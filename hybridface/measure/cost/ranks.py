"""Run the ranks of a benchmark by `mpiexec`, and return the JSON objects that they write."""

import json
from collections.abc import Sequence
from typing import Any

from hybridface.errors import RunError
from hybridface.processes.supervised import RankProcesses
from launch.mpiexec import python_module

__all__ = ["run_ranks"]


def run_ranks(module: str, programs: Sequence[Sequence[str]], timeout: float) -> list[dict[str, Any]]:
    """Run a rank `python -m module` for each list of arguments, and return the JSON objects that the ranks write.

    Args:
        module: the module to run.
        programs: the arguments of each rank.
        timeout: seconds for all ranks together.

    Raises:
        RunError: a rank failed, or the ranks did not end in time.
    """
    commands = [python_module(module, *arguments) for arguments in programs]
    names = [f"rank {number}" for number in range(len(commands))]
    with RankProcesses(commands, names, timeout, most=timeout) as ranks:
        said = [json.loads(line) for line in ranks.lines() if line.startswith("{")]
        failure = ranks.unexpected_end()
    if failure:
        raise RunError(failure)
    return said
