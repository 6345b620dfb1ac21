"""Measure the peer CrypTen alone: two processes run the whole network on CrypTen's own shares (`crypten_party`).

CrypTen's default is insecure: rank 0 deals the triples and can open everything. The row shows the least that sharing
without homomorphic encryption costs. Its time includes the dealer's work.
"""

from typing import Any

import numpy as np

from hybridface.errors import RunError
from hybridface.folders import temporary_folder
from hybridface.measure.peers.children import run_pair
from hybridface.measure.peers.measure import Peer, PeerTask, Run
from launch.mpiexec import python_module

__all__ = ["crypten_peer", "crypten_runs"]

_NAME = "CrypTen alone"
_SECURITY = "insecure: rank 0 deals the triples and can open everything; semi-honest otherwise"


def crypten_peer(task: PeerTask, timeout: float = 300.0) -> Peer:
    """Return the peer. Each run starts two processes.

    Args:
        timeout: seconds for one run, with its start.
    """

    def run() -> Run:
        (result,), _ = crypten_runs(task, 1, timeout)
        try:
            return Run(
                seconds=float(result["seconds"]),
                match=bool(result["match"]),
                max_error=task.error_of(np.array(result["features"], dtype=np.float64)),
                bytes_online=int(result["bytes"]),
                rounds=int(result["rounds"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{_NAME}: expected seconds, match, features, bytes and rounds, got {error}") from error

    return Peer(_NAME, _SECURITY, run)


def crypten_runs(task: PeerTask, runs: int, timeout: float = 300.0) -> tuple[list[dict[str, Any]], list[int]]:
    """Do a task `runs` times in two processes, after a warm-up.

    Args:
        timeout: seconds for all runs together, with the start.

    Returns:
        what `crypten_party` reports about every run, and the peak bytes of the client and the server.

    Raises:
        RunError: a process failed, or its output is not as expected.
    """
    with temporary_folder() as folder:
        np.save(folder / "image.npy", task.image)
        np.save(folder / "template.npy", task.template)
        module, rest = "hybridface.measure.peers.crypten_party", [task.model.name, str(folder), str(timeout), str(runs)]
        said, _ = run_pair(_NAME, [python_module(module, str(rank), *rest) for rank in (0, 1)], timeout)
    if len(said.get("runs", ())) != runs or len(said.get("peak_bytes", ())) != 2:
        raise RunError(f"{_NAME}: expected {runs} runs and the memory of two processes, got {sorted(said)}")
    return said["runs"], said["peak_bytes"]
