"""Command lines that start one program per rank (MPMD) on this machine.

Nothing of the other packages is imported here; these are strings. The `mpich` wheel brings `mpiexec.gforker`, which
starts the ranks itself and listens on no port (its `mpiexec` listens on all interfaces, also for ranks of one machine);
between machines `several_machines.sh` uses `mpiexec`.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ONE_MACHINE", "ONE_THREAD", "find_mpiexec", "mpiexec_command", "python_module"]

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Numerical libraries use one thread in each rank: three ranks share the machine's cores."""

ONE_MACHINE = {"UCX_TLS": "self,sysv,cma"}
"""Ranks of one machine talk through shared memory alone: none of them listens on a port."""

_PROGRAM = "mpiexec.gforker"


def find_mpiexec() -> str:
    """Return the path of `mpiexec.gforker`: beside this Python's interpreter, else on PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    beside = Path(sys.executable).parent / _PROGRAM
    found = str(beside) if beside.exists() else shutil.which(_PROGRAM)
    if found is None:
        raise FileNotFoundError(f"expected {_PROGRAM} (pip install mpich), found none")
    return found


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in this Python, and nothing that lies in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def mpiexec_command(
    ranks: Sequence[Sequence[str]],
    mpiexec: str = _PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command line that starts one process per program on this machine.

    At the end it says how each rank has ended, on standard error.

    Args:
        ranks: a program and its arguments for each rank, in rank order.
        environment: set for every rank.
    """
    command = [mpiexec, "-exitinfo"]
    for name, value in (ONE_THREAD | ONE_MACHINE | dict(environment or {})).items():
        command += ["-genv", name, value]
    for index, program in enumerate(ranks):
        command += [":"] * (index > 0) + ["-n", "1", *program]
    return command
