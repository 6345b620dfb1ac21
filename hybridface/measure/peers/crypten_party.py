"""Run a network with CrypTen alone (its layers, communicator and provider), as one of two processes.

    python -m hybridface.measure.peers.crypten_party RANK MODEL FOLDER SECONDS [RUNS]

**Task.** The processes compute the features of an image, their squared distance to a template, and whether the distance
is below the threshold. They open only this bit while the clock runs. Afterwards they open the features too, to measure
their error.

**Inputs.** Rank 0 has the image. Rank 1 has the weights and the template, which it shares before the clock starts. One
warm-up goes first.

**Output.** The last line of rank 0 is a JSON object. It has the `peak_bytes` of both ranks, and `runs`: for each run,
seconds, match, features, bytes, rounds, and the seconds of every layer on rank 0's clock.

**Security** rests on rank 0. CrypTen's default provider, TrustedFirstParty, lets rank 0 deal all random numbers, so it
can open everything. With two parties, both also know the seeds of all zero sharings. So this peer measures speed, not
privacy.

**Messages** go over TCP by torch.distributed (gloo), on the loopback interface. CrypTen's own counters count them. Rank
1 does not end by itself, so that no message on the way is lost.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridface.models.model import Model, load_model
from hybridface.processes.memory import peak_bytes
from protocols.errors import ParameterError
from protocols.linear.packing import ConvShape
from protocols.network.graph import Node, Weights, layer_weights
from protocols.shares.crypten_import import crypten

__all__ = ["MATCHING", "CrypTenNetwork", "main"]

MATCHING = "distance and threshold"
"""The name of the last stage. The other stages have the names of the layers."""

_CLIENT, _SERVER = 0, 1


class CrypTenNetwork:
    """A layer graph as CrypTen operations (see `Operations`). Both ranks create it at the same time.

    Rank 1 encrypts its weights in the process.

    Args:
        model: rank 1's model has weights. Rank 0's weights are not used.
    """

    def __init__(self, model: Model) -> None:
        self.graph = model.graph
        weights = model.weights or {}
        self._linear = {name: _linear(weights, name, shape) for name, shape in model.graph.linear_layers().items()}

    def __call__(self, image: Any, on_layer: Callable[[str], None] | None = None) -> Any:
        """Map an encrypted image (1, C, H, W) to encrypted features (1, d).

        Args:
            on_layer: called after each layer with its name.
        """
        begun: list[str] = []

        def begin(name: str) -> None:
            if begun and on_layer:
                on_layer(begun[-1])
            begun.append(name)

        features = self.graph.evaluate(self, image, begin)
        if on_layer:
            on_layer(begun[-1])
        return features

    def linear(self, node: Node, value: Any) -> Any:
        return self._linear[node.name](value)

    def relu(self, node: Node, value: Any) -> Any:
        return value.relu()

    def max_pool(
        self, node: Node, value: Any, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> Any:
        return value.max_pool2d(kernel, stride=stride, padding=padding)

    def average_pool(self, value: Any, kernel: tuple[int, int], stride: tuple[int, int]) -> Any:
        return value.avg_pool2d(kernel if kernel != (0, 0) else tuple(value.size()[2:]), stride=stride)

    def square(self, value: Any) -> Any:
        return value.square()

    def scale(self, value: Any, factor: float) -> Any:
        return value * factor

    def pad(self, value: Any, amount: tuple[int, int, int]) -> Any:
        channels, below, right = amount
        return value.pad((0, right, 0, below, 0, channels))

    def flatten(self, value: Any) -> Any:
        return value.flatten(start_dim=1)


def _linear(weights: Weights, name: str, shape: ConvShape) -> Callable[[Any], Any]:
    """Return a private linear layer, for features (1, C) or images (1, C, H, W).

    If the network has no bias, the layer has a zero bias. So the other rank does not learn whether there is one.
    """
    weight: Any = np.zeros((shape.channels_out, shape.channels // shape.groups, *shape.kernel))
    bias: Any = None
    if weights:
        weight, bias = layer_weights(weights, name, shape)
    if bias is None:
        bias = np.zeros(shape.channels_out)
    if shape.kernel == (1, 1) and shape.groups == shape.channels == shape.channels_out:
        return _slopes(weight.reshape(-1), bias)
    if (shape.height, shape.width, *shape.kernel, shape.groups) == (1, 1, 1, 1, 1):
        module = crypten.nn.Linear(shape.channels, shape.channels_out)
        weight = weight.reshape(shape.channels_out, shape.channels)
    else:
        options = shape.kernel, shape.stride, shape.padding
        module = crypten.nn.Conv2d(shape.channels, shape.channels_out, *options, groups=shape.groups)
    module.set_parameter("weight", _tensor(weight))
    module.set_parameter("bias", _tensor(bias))
    return module.encrypt(src=_SERVER)  # type: ignore[no-any-return]


def _slopes(weight: Any, bias: Any) -> Callable[[Any], Any]:
    """Return the function x -> a x + b by channel; CrypTen has no module for it."""
    slopes, offsets = (crypten.cryptensor(_tensor(values), src=_SERVER) for values in (weight, bias))

    def apply(value: Any) -> Any:
        shape = (1, -1, *(1,) * (value.dim() - 2))
        return value * slopes.reshape(shape) + offsets.reshape(shape)

    return apply


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _connect(rank: int, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE="2",
        RENDEZVOUS=f"file://{folder / 'rendezvous'}",
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME="lo",
    )
    crypten.init()
    crypten.config.cfg["communicator.verbose"] = True


def _verify(network: CrypTenNetwork, template: Any, image: torch.Tensor, bound: float) -> dict[str, Any]:
    """Do the task once. Return the times, the decision, the features, and both ranks' bytes and rounds."""
    stages: dict[str, float] = {}
    marks: list[float] = []

    def mark(name: str) -> None:
        marks.append(time.perf_counter())
        stages[name] = marks[-1] - marks[-2]

    communicator = crypten.communicator.get()
    communicator.barrier()
    communicator.reset_communication_stats()
    marks.append(time.perf_counter())
    features = network(crypten.cryptensor(image, src=_CLIENT), mark)
    distance = (features - template).square().sum()
    match = bool(distance.lt(bound).get_plain_text())
    mark(MATCHING)
    counted = communicator.get_communication_stats()
    opened = features.get_plain_text().reshape(-1).tolist()
    # each rank counts the bytes that it sends and receives, so half of the sum is the bytes that both have sent
    total = communicator.all_reduce(torch.tensor(int(counted["bytes"])))
    return {
        "seconds": marks[-1] - marks[0],
        "stages": stages,
        "match": match,
        "features": opened,
        "bytes": int(total) // 2,
        "rounds": int(counted["rounds"]),
    }


def _peaks() -> list[int]:
    """Return the peak memory of each rank in bytes, by rank."""
    own = torch.zeros(2, dtype=torch.long)
    communicator = crypten.communicator.get()
    own[communicator.get_rank()] = peak_bytes()
    return [int(size) for size in communicator.all_reduce(own)]


def main(rank: int, model_name: str, folder: Path, seconds: float, runs: int = 1) -> None:
    """Run one rank. Rank 0 prints the result as its last line.

    Args:
        seconds: the time after which this process ends in any case.
        runs: the number of runs after the warm-up.

    Raises:
        ParameterError: the rank is neither 0 nor 1.
    """
    if rank not in (_CLIENT, _SERVER):
        raise ParameterError(f"expected rank 0 or 1, got {rank}")
    signal.alarm(max(1, int(seconds)))  # ends this process in any case
    torch.set_num_threads(1)
    model = load_model(model_name, weights=rank == _SERVER)
    image = torch.zeros(1, *model.graph.input_shape)
    template = torch.zeros(1, *model.graph.output_shape)
    if rank == _CLIENT:
        image = _tensor(np.load(folder / "image.npy", allow_pickle=False))
    else:
        template = _tensor(np.load(folder / "template.npy", allow_pickle=False)).reshape(1, -1)
    _connect(rank, folder)
    with crypten.no_grad():
        network = CrypTenNetwork(model)
        enrolled = crypten.cryptensor(template, src=_SERVER)
        results = [_verify(network, enrolled, image, model.threshold**2) for _ in range(1 + runs)]
        document = {"runs": results[1:], "peak_bytes": _peaks()}
    if rank == _SERVER:
        signal.pause()  # until the parent process ends this one, when rank 0 is done
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
    os._exit(0)  # in a normal exit, gloo's threads would abort the process


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]), *map(int, sys.argv[5:]))
