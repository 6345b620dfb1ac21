"""Whether this process is one of MPI's ranks, asked without loading MPI, which starts it."""

import sys
from collections.abc import Mapping

__all__ = ["has_started_mpi", "was_started_by_mpiexec"]

_BY_MPIEXEC = ("PMI_RANK", "PMIX_RANK")


def was_started_by_mpiexec(environment: Mapping[str, str]) -> bool:
    """Return whether `mpiexec` started this process, by its environment."""
    return any(name in environment for name in _BY_MPIEXEC)


def has_started_mpi() -> bool:
    """Return whether MPI runs in this process, which then ends together with the other ranks."""
    return "mpi4py.MPI" in sys.modules
