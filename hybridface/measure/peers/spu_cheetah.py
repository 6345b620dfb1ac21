"""Measure the peer SPU Cheetah, a two-party protocol from ring-LWE and oblivious transfer.

Ring-LWE computes the products, and oblivious transfer the comparisons. There is no third party, and both parties are
semi-honest.

SPU needs older libraries than this project. So it has its own environment, which runs `spu_network.py`: two processes,
each with its own input, which exchange messages by TCP over 127.0.0.1. A run takes minutes, so the comparison does only
one.
"""

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np

from hybridface.errors import RunError
from hybridface.folders import temporary_folder
from hybridface.measure.peers.children import run_pair
from hybridface.measure.peers.measure import Peer, PeerTask, Run
from hybridface.measure.peers.spu_program import arrays_of, program_of

__all__ = ["DEFAULT_INTERPRETER", "spu_peer"]

DEFAULT_INTERPRETER = Path(".venv-spu/bin/python")
"""Python of the environment that `make bench-peers` builds."""

_NAME = "SPU Cheetah"
_SECURITY = "ring-LWE, oblivious transfer; no third party; semi-honest"
_SCRIPT = Path(__file__).with_name("spu_network.py")
_BYTES = re.compile(r"Link details: total send bytes (\d+), recv bytes (\d+)")


def spu_peer(task: PeerTask, interpreter: Path = DEFAULT_INTERPRETER, timeout: float = 1800.0) -> Peer:
    """Return the peer. It is optional: if it fails, its row says why.

    Args:
        interpreter: Python of an environment with SPU.
        timeout: seconds for the run, with compilation.
    """

    def run() -> Run:
        if not interpreter.is_file():
            raise RunError(f"no SPU environment, expected {interpreter} (make bench-peers builds it)")
        with temporary_folder() as folder:
            _write(task, folder)
            rest = [*_free_ports(), str(folder), str(timeout)]
            commands = [[str(interpreter), str(_SCRIPT), str(rank), *rest] for rank in (0, 1)]
            result, said = run_pair(_NAME, commands, timeout)
        return _run(task, result, said)

    return Peer(_NAME, _SECURITY, run, most_runs=1, optional=True)


def _run(task: PeerTask, result: dict[str, Any], said: str) -> Run:
    counted = _BYTES.findall(said)
    if not counted:
        raise RunError(f"{_NAME}: expected a count of bytes in its log, found none")
    try:
        return Run(
            seconds=float(result["seconds"]),
            match=bool(result["match"]),
            max_error=task.error_of(np.array(result["features"], dtype=np.float64)),
            bytes_online=sum(int(count) for count in counted[-1]),
            versions={str(name): str(version) for name, version in result["versions"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{_NAME}: expected seconds, match, features and versions, got {error}") from error


def _write(task: PeerTask, folder: Path) -> None:
    """Write graph.json (public), image.npz (rank 0's) and private.npz (rank 1's), with channels last as in SPU."""
    image = task.image.transpose(0, 2, 3, 1)
    network = task.model.graph
    private = {"template": task.template, **arrays_of(network, task.model.weights or {})}
    inputs = {"image": image.shape, **{name: value.shape for name, value in private.items()}}
    graph = {"program": program_of(network), "inputs": inputs, "bound": task.model.threshold**2}
    (folder / "graph.json").write_text(json.dumps(graph))
    np.savez(folder / "image.npz", image=image)
    np.savez(folder / "private.npz", **private)  # type: ignore[arg-type]


def _free_ports() -> list[str]:
    """Return two free ports of the loopback interface."""
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
        return [str(listener.getsockname()[1]) for listener in (first, second)]
