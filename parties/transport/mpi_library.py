"""MPI's library, its start and its end: both wait for all other ranks, so here they get a deadline.

`MPI_Init` and `MPI_Finalize` cannot be told how long to wait, and mpi4py keeps Python's lock meanwhile, so that not
even a signal is heard. Here a thread calls them without that lock, and this one waits for it.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import mpi4py

mpi4py.rc.initialize = mpi4py.rc.finalize = False  # on import, and at the end
from mpi4py import MPI  # noqa: E402

from parties.transport.shared_memory import segments_of  # noqa: E402
from protocols.errors import PeerLostError  # noqa: E402

__all__ = ["MPI", "abort_world", "end_mpi", "forget_shared_memory", "start_mpi"]


def start_mpi(timeout: float) -> None:
    """Start MPI in this process.

    Raises:
        PeerLostError: not all ranks have done so in time.
    """
    if MPI.Is_initialized():
        return
    level = MPI.THREAD_MULTIPLE
    _bounded(lambda mpi: mpi.MPI_Init_thread(None, None, level, ctypes.byref(ctypes.c_int())), timeout, "join")


def end_mpi(timeout: float) -> None:
    """End MPI in this process; then the process must end by itself, not by `os._exit`.

    Raises:
        PeerLostError: not all ranks have done so in time.
    """
    if MPI.Is_finalized():
        return
    _bounded(lambda mpi: mpi.MPI_Finalize(), timeout, "end")


def abort_world(status: int, timeout: float = 0.0) -> None:
    """End this process and all ranks with an exit status; nothing happens once MPI has ended here.

    Args:
        timeout: seconds to wait for ranks that have not started MPI yet, if this one has not; they cannot be ended
            before, but `mpiexec` ends them when this one has.
    """
    if MPI.Is_finalized():
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if timeout and not MPI.Is_initialized():
        with suppress(PeerLostError):
            start_mpi(timeout)
    if MPI.Is_initialized():
        MPI.COMM_WORLD.Abort(status)
    os._exit(status)


def forget_shared_memory() -> None:
    """Remove the names of shared memory that all ranks of this machine have by now.

    Then it goes when they end, also when they are killed.
    """
    for segment in segments_of("self"):
        segment.unlink(missing_ok=True)


def _bounded(call: Callable[[ctypes.CDLL], Any], timeout: float, what: str) -> None:
    """Call MPI's library in another thread, and raise `PeerLostError` at the deadline."""
    done, library = threading.Event(), ctypes.CDLL(MPI.__file__)

    def run() -> None:
        call(library)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    if not done.wait(timeout):
        raise PeerLostError(f"expected every rank to {what} within {timeout:g} s, got none")
