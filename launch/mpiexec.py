"""Build command lines that start one program per rank (MPMD) on this machine.

This module imports none of the other packages: it only builds strings. The `mpich` wheel has two launchers:

- `mpiexec.gforker` starts the ranks itself and listens on no port. This module uses it.
- `mpiexec` listens on all interfaces, even for ranks of one machine. `several_machines.sh` uses it between machines.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ONE_MACHINE", "ONE_THREAD", "find_mpiexec", "mpiexec_command", "python_module"]

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Makes numerical libraries use one thread in each rank, because the ranks share the machine's cores."""

ONE_MACHINE = {"UCX_TLS": "self,sysv,cma"}
"""Makes ranks of one machine communicate only through shared memory, so that none of them listens on a port."""

_PROGRAM = "mpiexec.gforker"


def find_mpiexec() -> str:
    """Return the path of `mpiexec.gforker`, from the folder of this Python interpreter or else from PATH.

    Raises:
        FileNotFoundError: `mpiexec.gforker` is in neither place.
    """
    beside = Path(sys.executable).parent / _PROGRAM
    found = str(beside) if beside.exists() else shutil.which(_PROGRAM)
    if found is None:
        raise FileNotFoundError(f"expected {_PROGRAM} (pip install mpich), found none")
    return found


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in this Python, but imports nothing from the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def mpiexec_command(
    ranks: Sequence[Sequence[str]],
    mpiexec: str = _PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command line that starts one process per program on this machine.

    At the end, mpiexec writes to standard error how each rank ended.

    Args:
        ranks: the program and its arguments for each rank, in rank order.
        mpiexec: the path of `mpiexec.gforker`.
        environment: variables to set for every rank.
    """
    command = [mpiexec, "-exitinfo"]
    for name, value in (ONE_THREAD | ONE_MACHINE | dict(environment or {})).items():
        command += ["-genv", name, value]
    for index, program in enumerate(ranks):
        command += [":"] * (index > 0) + ["-n", "1", *program]
    return command
