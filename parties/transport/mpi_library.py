"""Start and end MPI's library with a deadline, since both wait for all other ranks.

`MPI_Init` and `MPI_Finalize` have no timeout. mpi4py holds Python's global lock during both, so that Python cannot even
handle a signal. Here a separate thread calls them without that lock, and the calling thread waits for the result.
"""

import ctypes
import fcntl
import os
import stat
import sys
import termios
import threading
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress

import mpi4py

mpi4py.rc.initialize = mpi4py.rc.finalize = False  # on import, and at the end
from mpi4py import MPI  # noqa: E402

from parties.transport.shared_memory import segments_of  # noqa: E402
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError  # noqa: E402

__all__ = ["MPI", "abort_world", "end_mpi", "forget_shared_memory", "start_mpi", "wait_until_read"]


_READ_SECONDS = 1.0
_thread = ThreadPoolExecutor(1, "MPI")
_ending = threading.Event()


def start_mpi(timeout: float) -> None:
    """Start MPI in this process.

    Raises:
        PeerLostError: not all ranks have started MPI in time.
        ParameterError, ProtocolError: MPI cannot be started.
    """
    if not MPI.Is_initialized():
        _bounded(_initialise, timeout, "join")


def end_mpi(timeout: float) -> None:
    """End MPI in this process. Afterwards the process must end by itself, not by `os._exit`.

    Raises:
        PeerLostError: not all ranks have ended MPI in time.
    """
    if not MPI.Is_finalized():
        _ending.set()
        _bounded(lambda mpi: mpi.MPI_Finalize(), timeout, "end")


def abort_world(status: int, timeout: float = 0.0) -> None:
    """End this process and all ranks with an exit status. Do nothing if MPI has already ended in this process.

    Args:
        timeout: seconds to wait until all ranks have started MPI, if this rank has not started it yet. MPI cannot end
            ranks that have not started it, but `mpiexec` ends them when this process has ended.
    """
    if MPI.Is_finalized():
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (sys.stdout, sys.stderr):
            wait_until_read(stream.fileno(), _READ_SECONDS)
    if timeout and not MPI.Is_initialized():
        with suppress(HybridFaceError):
            start_mpi(timeout)
    if MPI.Is_initialized() and not _ending.is_set():  # while it ends, MPI can do nothing else
        MPI.COMM_WORLD.Abort(status)
    os._exit(status)


def wait_until_read(descriptor: int, seconds: float) -> None:
    """Wait until the other end of a pipe has read everything, or `seconds` are over.

    `mpiexec` reads what ranks print through pipes. When a rank aborts, `mpiexec` ends at once, and output that it has
    not read is lost.
    """
    deadline, unread = time.monotonic() + seconds, array("i", [1])
    while unread[0] and stat.S_ISFIFO(os.fstat(descriptor).st_mode) and time.monotonic() < deadline:
        fcntl.ioctl(descriptor, termios.FIONREAD, unread)
        time.sleep(0.001 if unread[0] else 0)


def forget_shared_memory() -> None:
    """Remove the names of MPI's shared memory after all ranks of this machine have mapped it.

    The system then frees the memory when the ranks end, even if they are killed.
    """
    for segment in segments_of("self"):
        segment.unlink(missing_ok=True)


def _initialise(mpi: ctypes.CDLL) -> int:
    provided = ctypes.c_int()
    status = int(mpi.MPI_Init_thread(None, None, MPI.THREAD_MULTIPLE, ctypes.byref(provided)))
    if status == MPI.SUCCESS and provided.value != MPI.THREAD_MULTIPLE:
        raise ParameterError("expected an MPI library with MPI_THREAD_MULTIPLE, got one without")
    return status


def _bounded(call: Callable[[ctypes.CDLL], int], timeout: float, what: str) -> None:
    """Call MPI's library in its own thread. MPI requires the same thread for its start and its end.

    Raises:
        PeerLostError: the deadline has passed.
        ProtocolError: the library reports an error.
    """
    try:
        status = _thread.submit(call, ctypes.CDLL(MPI.__file__)).result(timeout)
    except FutureTimeout as error:
        raise PeerLostError(f"expected every rank to {what} within {timeout:g} s, got none") from error
    if status != MPI.SUCCESS:
        raise ProtocolError(f"expected MPI to {what}, got its error {status}")
