"""Start and measure each way: start processes on this machine, enrol once, then verify some times.

In every way, the faces are found, aligned and normalised before the clock starts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hybridface.errors import RunError
from hybridface.folders import cache_directory, temporary_folder
from hybridface.measure.modes.samples import (
    Sample,
    Session,
    Setup,
    Stage,
    Traffic,
    WorkKind,
    kinds_of_layers,
    sample_in_turns,
    sample_of_cost,
    summed,
)
from hybridface.measure.modes.ways import ReportMode, Way
from hybridface.measure.peers import PeerTask
from hybridface.measure.peers.children import run_pair
from hybridface.measure.peers.crypten_alone import crypten_runs
from hybridface.measure.peers.crypten_party import MATCHING
from hybridface.measure.peers.features_only import features_only_session
from hybridface.processes.runs import HybridRun, PureHeRun
from hybridface.processes.start import start
from launch.mpiexec import python_module
from parties.session.cost import ONLINE
from protocols.link import Link

__all__ = ["Start", "start_session"]

Start = Callable[[PeerTask, int, Link, float], Session]
_CORRELATIONS = "correlations"


def start_session(way: Way, task: PeerTask, verifications: int, link: Link, timeout: float) -> Session:
    """Start the processes of a way, enrol once, verify some times, and return the cost.

    Args:
        verifications: the number of verifications.
        link: the link to simulate between the processes; "none" for ways that cannot simulate one.
        timeout: seconds that a process waits for another.

    Raises:
        RunError: a process failed or wrote something unexpected, or its decision differs from that of the network in
            the clear.
    """
    try:
        session = _STARTS[way.mode](task, verifications, link, timeout)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{way.name}: expected the cost of a session, got {type(error).__name__}: {error}") from error
    if any(sample.match != task.match for sample in session.samples):
        raise RunError(f"{way.name}: expected the decision of the network in the clear, got the opposite")
    return session


def _plain(task: PeerTask, verifications: int, link: Link, timeout: float) -> Session:
    with temporary_folder() as folder:
        np.save(folder / "image.npy", task.image)
        np.save(folder / "template.npy", task.template)
        module = "hybridface.measure.modes.plain_process"
        command = python_module(module, task.model.name, str(folder), str(verifications))
        said, _ = run_pair("plain", [command], timeout)
    chip = Traffic(3 * task.model.chip_size**2, 1, rounds=2)  # the aligned crop goes up, and one byte comes down
    kinds = {"network": WorkKind.CLEAR, "matching": WorkKind.MATCHING}
    samples = (
        Sample(run["match"], summed(Stage(ONLINE, kind, run[key]) for key, kind in kinds.items()), chip)
        for run in said["runs"]
    )
    return Session(tuple(samples), {"server": int(said["peak_bytes"])})


def _hybrid(task: PeerTask, verifications: int, link: Link, timeout: float) -> Session:
    told: dict[str, Any] = {"model": task.model.name, "timeout": timeout, "link": link, "cache": cache_directory()}
    outcome = start(HybridRun(**told, **_verifying(task, verifications), enrolled=True))
    kinds = kinds_of_layers(task.model.graph) | {_CORRELATIONS: WorkKind.CORRELATIONS, MATCHING: WorkKind.MATCHING}
    samples = (sample_of_cost(bool(result["match"]), result["cost"], kinds) for result in outcome.results)
    return Session(tuple(samples), outcome.memory, _setup(outcome.setup) if outcome.setup else None)


def _verifying(task: PeerTask, verifications: int) -> dict[str, Any]:
    return {"photos": task.photos, "aligned": task.aligned, "repeat": verifications}


def _pure_he(task: PeerTask, verifications: int, link: Link, timeout: float) -> Session:
    run = PureHeRun(model=task.model.name, timeout=timeout, link=link, **_verifying(task, verifications))
    outcome = start(run)
    kinds = {"upload": WorkKind.UPLOAD, "distance": WorkKind.MATCHING}
    kinds |= {name: WorkKind.LINEAR for name in _layers_of(outcome.results) if name not in kinds}
    samples = (sample_in_turns(result["match"], result["cost"], kinds) for result in outcome.results)
    return Session(tuple(samples), outcome.memory, _setup(outcome.setup) if outcome.setup else None)


def _pure_mpc(task: PeerTask, verifications: int, link: Link, timeout: float) -> Session:
    runs, peaks = crypten_runs(task, verifications, timeout)
    kinds = kinds_of_layers(task.model.graph) | {MATCHING: WorkKind.MATCHING}
    samples = []
    for run in runs:
        stages = summed(Stage(ONLINE, kinds[name], seconds) for name, seconds in run["stages"].items())
        half = int(run["bytes"]) // 2  # the two ranks exchange shares: the bytes up equal those down
        samples.append(Sample(run["match"], stages, Traffic(half, half, rounds=int(run["rounds"]))))
    return Session(tuple(samples), dict(zip(("client", "server"), peaks, strict=True)))


def _features_only(task: PeerTask, verifications: int, link: Link, timeout: float) -> Session:
    session = features_only_session(task, verifications, link, timeout)
    kinds = {"network in the clear": WorkKind.CLEAR, "upload": WorkKind.UPLOAD, "distance": WorkKind.MATCHING}
    samples = (sample_in_turns(result["match"], result["cost"], kinds) for result in session.results)
    return Session(tuple(samples), session.memory, _setup(session.setup))


def _layers_of(results: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of all online stages. In pure HE, a layer is an affine map with the square after it."""
    return {stage["stage"] for result in results for stage in result["cost"]["stages"] if stage["phase"] == ONLINE}


def _setup(stage: Mapping[str, Any]) -> Setup:
    return Setup(float(stage["elapsed_seconds"]), int(stage["bytes_up"]), int(stage["bytes_down"]))


_STARTS: dict[ReportMode, Start] = {
    ReportMode.PLAIN: _plain,
    ReportMode.HYBRID: _hybrid,
    ReportMode.PURE_HE: _pure_he,
    ReportMode.PURE_MPC: _pure_mpc,
    ReportMode.FEATURES_ONLY: _features_only,
}
