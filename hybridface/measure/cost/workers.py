"""Benchmark server workers: the homomorphic products of one photo's layers on 1, 2, ... ranks of the server.

The leading rank also plays the client: it makes the uploads before the clock starts. So only the server's work is
timed, from the uploads in memory to the joined, masked answers of all layers. `mpiexec` runs the ranks (see
`bench_workers`).
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.table import Table

from hybridface.measure.cost.ranks import run_ranks
from hybridface.models.model import load_model
from hybridface.models.terms import hybrid_terms
from parties.transport.roles import Role

__all__ = ["bench_workers", "workers_table"]

_TIMEOUT_SECONDS = 600.0
_STAGES = ("unpack", "multiply-accumulate", "mask", "all")


def bench_workers(
    model: str, most: int, runs: int, cache: Path | None, on_count: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Time the products of one photo on 1, ..., `most` ranks of the server, and return a JSON object.

    Raises:
        RunError: a rank failed.
    """
    measured = {}
    for count in range(1, most + 1):
        if on_count:
            on_count(count)
        measured[count] = _run_ranks(model, count, runs, cache)
    return {
        "model": model,
        "runs": runs,
        "workers": {count: _row(measured[count], measured[1]) for count in measured},
    }


def _row(measured: dict[str, list[float]], one: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        stage: {
            "median": median(values),
            "min": min(values),
            "max": max(values),
            "speedup": median(one[stage]) / median(values),
        }
        for stage, values in measured.items()
    }


def workers_table(document: dict[str, Any]) -> Table:
    """Return the result as a table. A stage's seconds are those of the slowest rank."""
    title = f"{document['model']}, products of one photo, {document['runs']} runs"
    table = Table(title=title, box=None)
    for column in ("ranks", "stage", "median s", "min", "max", "times faster"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for count, stages in document["workers"].items():
        for index, (stage, row) in enumerate(stages.items()):
            cells = [f"{row[key]:.3f}" for key in ("median", "min", "max")]
            table.add_row("" if index else str(count), stage, *cells, f"{row['speedup']:.2f}")
        table.add_section()
    return table


def _run_ranks(model: str, workers: int, runs: int, cache: Path | None) -> dict[str, list[float]]:
    """Return the seconds of every run by stage: those of the slowest rank, and the leading rank's total as "all"."""
    arguments = [model, str(runs), "none" if cache is None else str(cache)]
    programs = [[Role.SERVER.value, *arguments], *[[Role.WORKER.value, *arguments]] * (workers - 1)]
    stages: dict[str, list[float]] = {}
    for said in run_ranks("hybridface.measure.cost.workers", programs, _TIMEOUT_SECONDS):
        (rank,) = said.values()
        for stage, seconds in rank["seconds"].items():
            stages[stage] = [max(pair) for pair in zip(stages.get(stage, seconds), seconds, strict=True)]
    return dict(sorted(stages.items(), key=lambda item: _STAGES.index(item[0])))


def _lead(model: str, runs: int, channels: list[Any], cache: Path | None, watch: "_Stopwatch") -> list[float]:
    """Time the products of all layers, after one run that does not count."""
    from parties.session.weight_cache import layer_polynomials
    from parties.session.worker import WorkerPool
    from protocols.arithmetic.fixed_point import random_ring
    from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey
    from protocols.linear.conversion import Upload
    from protocols.linear.convolution import MaskedProducts
    from protocols.network.private import halves, plan_network

    loaded = load_model(model)
    terms = hybrid_terms(loaded)
    context = CkksContext(terms.parameters)
    keys, plans = ClientKeys(context), plan_network(loaded.graph)
    uploads = {}
    for name, plan in plans.items():
        items, groups = plan.tile_count, plan.groups_in
        seed, bodies = keys.encrypt(context.modulus.lift(random_ring((items * groups, context.degree)), 0))
        wire = context.modulus.to_wire(bodies)
        wire = wire.reshape(groups, items, *wire.shape[1:])
        uploads[name] = Upload(np.frombuffer(seed, dtype=np.uint8), wire, name)
    source = layer_polynomials(cache, context, plans, loaded.weights or {})
    public_key = PublicKey(context, keys.public_key())
    own = {name: MaskedProducts(plan, public_key, source(name), watch) for name, plan in plans.items()}
    pool = WorkerPool(channels, terms, plans, public_key)
    pool.share(own)
    seconds = []
    begun: deque[Callable[[], Any]] = deque()
    for _ in range(runs + 1):
        start = time.perf_counter()
        for name, first_half in halves(plans):
            if first_half:
                begun.append(pool.multiply(name)(uploads[name]))
            else:
                begun.popleft()()
        seconds.append(time.perf_counter() - start)
    pool.end()
    return seconds[1:]


class _Stopwatch:
    """Times every stage of every layer."""

    def __init__(self) -> None:
        self._stage, self._since = "end", 0.0
        self._laps: dict[str, list[float]] = {}

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        if self._stage != "end":
            self._laps.setdefault(self._stage, []).append(now - self._since)
        self._stage, self._since = stage, now

    def per_run(self, runs: int) -> dict[str, list[float]]:
        """Return each stage's seconds in every run except the first, which does not count."""
        layers = {stage: len(laps) // runs for stage, laps in self._laps.items()}
        return {
            stage: [sum(laps[run * layers[stage] : (run + 1) * layers[stage]]) for run in range(1, runs)]
            for stage, laps in self._laps.items()
        }


def main(name: str, model: str, runs: str, cache: str) -> int:
    """Run one rank of the benchmark, and return its exit status."""
    from hybridface.measure.cost.rank_main import rank_main
    from parties.session.worker import Worker

    torch.set_num_threads(1)
    role, folder, watch = Role(name), None if cache == "none" else Path(cache), _Stopwatch()

    def work(world: Any) -> dict[str, Any]:
        seconds: dict[str, Any] = {}
        if role is Role.SERVER:
            seconds["all"] = _lead(model, int(runs), world.workers(), folder, watch)
        else:
            loaded = load_model(model)
            terms = hybrid_terms(loaded)
            Worker(world.server_of_worker(), terms, loaded.weights or {}, folder, on_stage=watch).serve()
        return {"seconds": seconds | watch.per_run(int(runs) + 1)}

    return rank_main(role, work, (Role.SERVER,))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
