"""Find out whether this process is one of MPI's ranks, without loading MPI."""

from collections.abc import Mapping

__all__ = ["was_started_by_mpiexec"]

_BY_MPIEXEC = ("PMI_RANK", "PMIX_RANK")


def was_started_by_mpiexec(environment: Mapping[str, str]) -> bool:
    """Return whether `mpiexec` started the process that has this environment."""
    return any(name in environment for name in _BY_MPIEXEC)
