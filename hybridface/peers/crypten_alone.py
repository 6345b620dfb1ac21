"""CrypTen alone: two processes, the whole network on its own secret shares (`crypten_party` is one of them).

Insecure as CrypTen comes: rank 0 deals the triples and can open everything. The row shows what sharing without
homomorphic encryption costs at best, with a dealer's work in the time.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from hybridface.errors import RunError
from hybridface.peers.children import run_pair
from hybridface.peers.measure import Peer, Run, Task

__all__ = ["crypten_peer"]

_NAME = "CrypTen alone"
_SECURITY = "insecure: rank 0 deals the triples and can open everything; semi-honest otherwise"


def crypten_peer(task: Task, timeout: float = 300.0) -> Peer:
    """Return the peer. Each run starts two processes.

    Args:
        timeout: seconds for one run, its start included.
    """

    def run() -> Run:
        with tempfile.TemporaryDirectory(prefix="hybridface-") as name:
            folder = Path(name)
            np.save(folder / "image.npy", task.image)
            np.save(folder / "template.npy", task.template)
            command = [sys.executable, "-m", "hybridface.peers.crypten_party"]
            rest = [task.model.name, name, str(timeout)]
            result, _ = run_pair(_NAME, [[*command, str(rank), *rest] for rank in (0, 1)], timeout)
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
