"""Benchmark a verification in pure-HE mode, with client and server as two MPI ranks.

The network is trained or random. A trained network gets the faces of the project's photos, and a random network gets
random numbers. The client's rank reads the weights too, but only to compare every distance with the network in the
clear (float64).
"""

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hybridface.errors import ModelError
from hybridface.faces.inputs import load_images
from hybridface.measure.cost.ranks import run_ranks
from hybridface.models.model import load_model
from hybridface.photos import PHOTOS, photo_path
from parties.transport.roles import Role
from protocols.pure_he import PatchNetShape, PatchNetWeights

__all__ = ["RANDOM", "Subject", "bench_pure_he", "load_subject", "pure_he_table"]

RANDOM = "random"
"""Stands for random weights, where a file name is expected."""

_CLIENT, _SERVER = "client", "server"
_ROLES = (_CLIENT, _SERVER)
_TIMEOUT_SECONDS = 1800.0
_THRESHOLD = 1.0
_RANDOM_INPUTS = 10


@dataclass(frozen=True)
class Subject:
    """The network and the inputs that the benchmark uses.

    Args:
        weights: the network's weights.
        threshold: the network's threshold, as a Euclidean distance.
        inputs: float64 (n, P, inputs): the enrolled input, then the inputs that are compared with it in turn.
    """

    weights: PatchNetWeights
    threshold: float
    inputs: NDArray[np.float64]


def load_subject(path: str, widths: Sequence[int] = (64, 64, 64)) -> Subject:
    """Return the shipped network for "", a random network for "random", or the network of a file.

    Args:
        widths: for the random network, the number of features per patch after each square. It has 16 patches of 768
            values.

    Raises:
        ModelError: the file has no patch network.
    """
    if path == RANDOM:
        shape = PatchNetShape(16, 768, tuple(widths), 128)
        inputs = np.random.default_rng(0).uniform(-1, 1, (_RANDOM_INPUTS, shape.patches, shape.inputs))
        return Subject(PatchNetWeights.random(shape), _THRESHOLD, inputs)
    model = load_model("patchnet", path=path or None)
    if model.patch_weights is None:
        raise ModelError(f"expected a patch network with weights, got {model.name} without")
    images = load_images(model, [photo_path(name) for name in PHOTOS])
    shape = model.patch_weights.shape
    return Subject(model.patch_weights, model.threshold, images.reshape(-1, shape.patches, shape.inputs))


def bench_pure_he(weights: str, widths: Sequence[int], runs: int) -> dict[str, Any]:
    """Enrol one input, verify others against it, and return the cost as a JSON object.

    Raises:
        RunError: a rank failed.
    """
    arguments = [weights, ",".join(map(str, widths)), str(runs)]
    documents: dict[str, Any] = {}
    for said in run_ranks("hybridface.measure.cost.pure_he", [[role, *arguments] for role in _ROLES], _TIMEOUT_SECONDS):
        documents |= said
    return documents


def pure_he_table(document: dict[str, Any]) -> Table:
    """Return the result as a table."""
    client, server = document[_CLIENT], document[_SERVER]
    shape = client["shape"]
    title = f"{shape['patches']} patches of {shape['inputs']}, widths {shape['widths']}, {len(client['seconds'])} runs"
    table = Table(title=title, box=None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    seconds = client["seconds"]
    rows = {
        "one verification, seconds: median, min, max": [f"{f(seconds):.2f}" for f in (median, min, max)],
        "its processor seconds at the server": [f"{f(server['processor_seconds']):.2f}" for f in (median, min, max)],
        "keys, once, seconds: client, server": [f"{client['keys'][f'{party}_seconds']:.2f}" for party in _ROLES],
        "weights, once, seconds": [f"{server['encode_seconds']:.2f}"],
        **{f"server seconds, {name}": [f"{value:.3f}"] for name, value in client["stages"].items()},
        "MB up: keys, once": [f"{client['keys']['bytes_up'] / 1e6:.1f}"],
        "MB: up, down": [f"{client[key] / 1e6:.2f}" for key in ("bytes_up", "bytes_down")],
        "rotations; keys of rotations": [str(client["rotations"]), str(client["rotation_keys"])],
        "peak memory, MiB: client, server": [f"{document[party]['peak_bytes'] / 2**20:.0f}" for party in _ROLES],
        "distance, relative error: median, max": [f"{f(client['errors']):.1e}" for f in (median, max)],
    }
    for name, values in rows.items():
        table.add_row(name, "  ".join(values))
    return table


def _be_client(channel: Any, subject: Subject, runs: int) -> dict[str, Any]:
    from parties.session.pure_he import PureHeClientSession

    weights, terms = subject.weights, _terms(subject, runs)
    others = itertools.islice(itertools.cycle(subject.inputs[1:]), runs)
    values = np.stack([subject.inputs[0], *others])
    expected = ((weights.embed(values[1:]) - weights.embed(values[0])) ** 2).sum(axis=-1)
    with PureHeClientSession(channel, terms) as session:
        template = session.enroll("first", values[0])
        results = [session.verify(value, template) for value in values[1:]]
    circuit = terms.circuit()
    names = [stage.stage for stage in results[0].cost.stages]
    stages = {
        name: median(s.server_seconds for r in results for s in r.cost.stages if s.stage == name) for name in names
    }
    return {
        "shape": weights.shape.document(),
        "parameters": asdict(terms.encryption),
        "keys": asdict(session.setup),
        "rotations": circuit.rotations,
        "rotation_keys": len(circuit.rotation_keys),
        "seconds": [result.cost.online.elapsed_seconds for result in results],
        "stages": stages,
        "bytes_up": results[0].cost.online.bytes_up,
        "bytes_down": results[0].cost.online.bytes_down,
        "errors": [abs(r.squared_distance / d - 1) for r, d in zip(results, expected.tolist(), strict=True)],
    }


def _terms(subject: Subject, runs: int) -> Any:
    from parties.session.pure_he import PureHeTerms

    return PureHeTerms(subject.weights.shape, subject.threshold, max_answers=runs)


def _be_server(channel: Any, subject: Subject, runs: int) -> dict[str, Any]:
    from parties.session.pure_he import PureHeServerSession
    from protocols.pure_he import EncodedNetwork

    terms = _terms(subject, runs)
    start = time.perf_counter()
    network = EncodedNetwork(terms.circuit(), subject.weights)
    seconds = time.perf_counter() - start
    session = PureHeServerSession(channel, terms, network)
    marks: list[float] = []
    session.serve(lambda: marks.append(time.process_time()))
    return {"encode_seconds": seconds, "processor_seconds": [b - a for a, b in pairwise(marks)]}


def main(name: str, path: str, widths: str, runs: str) -> int:
    """Run one rank of the benchmark, and return its exit status."""
    from hybridface.measure.cost.rank_main import rank_main

    roles = (Role.CLIENT, Role.SERVER)
    own, peer = roles if name == _CLIENT else roles[::-1]

    def work(world: Any) -> dict[str, Any]:
        subject = load_subject(path, [int(width) for width in widths.split(",")])
        be = _be_client if own is Role.CLIENT else _be_server
        return be(world.channel(peer), subject, int(runs))

    return rank_main(own, work, roles)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
