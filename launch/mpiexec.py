"""Command lines for `mpiexec`: one program per rank (MPMD), on one machine or over a host file.

Nothing of the other packages is imported here; these are strings. MPICH's `mpiexec` comes with the `mpich` wheel.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ONE_THREAD", "find_mpiexec", "mpiexec_command", "python_module"]

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Numerical libraries use one thread in each rank: three ranks share the machine's cores."""


def find_mpiexec() -> str:
    """Return the path of `mpiexec`: beside this Python's interpreter, else on PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise FileNotFoundError("expected mpiexec (pip install mpich), found none")
    return found


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in this Python, and nothing that lies in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def mpiexec_command(
    ranks: Sequence[Sequence[str]],
    mpiexec: str = "mpiexec",
    host_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command line that starts one process per program.

    Args:
        ranks: a program and its arguments for each rank, in rank order.
        host_file: names one host a line, for the ranks in order; None for this machine.
        environment: set for every rank.
    """
    command = [mpiexec]
    command += ["-f", str(host_file)] if host_file else ["-launcher", "fork"]
    for name, value in (ONE_THREAD | dict(environment or {})).items():
        command += ["-genv", name, value]
    for index, program in enumerate(ranks):
        command += [":"] * (index > 0) + ["-n", "1", *program]
    return command
