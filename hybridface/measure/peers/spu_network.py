"""Run a layer graph with SPU's Cheetah, as one of two processes.

    python spu_network.py RANK PORT0 PORT1 FOLDER SECONDS

This script imports nothing of hybridface, because its environment has only SPU and jax.

**Task.** The processes compute the features of an image, their squared distance to a template, and whether the distance
is below a bound. They open only this bit while the clock runs. Afterwards they open the features too, to measure their
error.

**Inputs.** Rank 0 reads image.npz, and rank 1 reads private.npz (weights and template). Both read graph.json. Each rank
shares its input and sends the other rank's share over the link. All messages go by TCP over 127.0.0.1.

**Output.** SPU prints the bytes that it sends and receives. After that, rank 0 prints one JSON line, its last. Rank 1
does not end by itself, so that no message on the way is lost.

**Security** rests on ring-LWE and oblivious transfer (semi-honest). There is no third party.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu
from jax import lax
from spu import libspu
from spu.utils import frontend

__all__ = ["main", "network"]

_SECRET = libspu.Visibility.VIS_SECRET
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def network(graph: dict[str, Any], values: dict[str, Any]) -> tuple[Any, Any]:
    """Return the features (d,) and the decision, from values by input name. jax traces this function."""
    done = [values["image"]]
    for step in graph["program"]:
        done.append(_apply(step, [done[number] for number in step["inputs"]], values))
    features = done[-1].reshape(-1)
    return features, jnp.sum((features - values["template"]) ** 2) < graph["bound"]


def _apply(step: dict[str, Any], inputs: list[Any], values: dict[str, Any]) -> Any:
    """Return an operation's output. Images are (1, height, width, channels). See `spu_program`."""
    x = inputs[0]
    match step["kind"]:
        case "linear":
            return _linear(step, x, values[step["name"] + ".weight"]) + values[step["name"] + ".bias"]
        case "relu":
            return jnp.maximum(x, 0)
        case "square":
            return x * x
        case "scale":
            return x * step["factor"]
        case "add":
            return x + inputs[1]
        case "subtract":
            return x - inputs[1]
        case "max_pool":
            window, stride, padding = _window(step, step["padding"])
            return lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)
        case "average_pool" if tuple(step["kernel"]) == (0, 0):
            return jnp.mean(x, axis=(1, 2), keepdims=True)
        case "average_pool":
            window, stride, padding = _window(step, (0, 0))
            return lax.reduce_window(x, 0.0, lax.add, window, stride, padding) / (window[1] * window[2])
        case "pad":
            channels, below, right = step["amount"]
            return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, channels)))
        case "flatten":
            return x.transpose(0, 3, 1, 2).reshape(1, -1)
        case kind:
            raise ValueError(f"expected a known operation, got {kind}")


def _linear(step: dict[str, Any], x: Any, weight: Any) -> Any:
    match step["form"]:
        case "slopes":
            return x * weight
        case "dense":
            return x @ weight
    return _convolution(step, x, weight)


def _window(step: dict[str, Any], padding: Any) -> tuple[Any, Any, Any]:
    kernel, stride = step["kernel"], step["stride"]
    return (1, *kernel, 1), (1, *stride, 1), ((0, 0), *((p, p) for p in padding), (0, 0))


def _convolution(step: dict[str, Any], x: Any, weight: Any) -> Any:
    """Convolve group by group, because SPU has no grouped convolution."""
    groups, padding = step["groups"], [(p, p) for p in step["padding"]]
    parts = [
        lax.conv_general_dilated(part, kernel, step["stride"], padding, dimension_numbers=_LAYOUT)
        for part, kernel in zip(jnp.split(x, groups, axis=3), jnp.split(weight, groups, axis=3), strict=True)
    ]
    return parts[0] if groups == 1 else jnp.concatenate(parts, axis=3)


def _compiled(graph: dict[str, Any]) -> Any:
    """Return the compiled program. The program and the shapes are public."""
    names = list(graph["inputs"])
    zeros = [np.zeros(shape, dtype=np.float32) for shape in graph["inputs"].values()]

    def program(*values: Any) -> tuple[Any, Any]:
        return network(graph, dict(zip(names, values, strict=True)))

    executable, _ = frontend.compile(
        frontend.Kind.JAX, program, zeros, {}, names, [_SECRET] * len(names), lambda flat: ["features", "match"]
    )
    return executable


def _give(link: Any, peer: int, share: Any) -> None:
    link.send(peer, share.meta)
    link.send(peer, str(len(share.share_chunks)))
    for chunk in share.share_chunks:
        link.send(peer, chunk)


def _take(link: Any, peer: int) -> Any:
    share = libspu.Share()
    share.meta = bytes(link.recv(peer))
    share.share_chunks = [bytes(link.recv(peer)) for _ in range(int(link.recv(peer)))]
    return share


def _share_inputs(link: Any, io: Any, runtime: Any, graph: dict[str, Any], own: Any) -> None:
    """Give the runtime its shares of all inputs. Rank 0 has the image, and rank 1 has everything else."""
    peer = 1 - link.rank
    for name in graph["inputs"]:
        if (name == "image") == (link.rank == 0):
            shares = io.make_shares(own[name].astype(np.float32), _SECRET)
            _give(link, peer, shares[peer])
            runtime.set_var(name, shares[link.rank])
        else:
            runtime.set_var(name, _take(link, peer))


def _open(link: Any, io: Any, share: Any) -> Any:
    """Open a value to rank 0, and return it there; return None at rank 1."""
    if link.rank == 1:
        _give(link, 0, share)
        return None
    return io.reconstruct([share, _take(link, 1)])


def _connect(rank: int, ports: list[str], seconds: float) -> Any:
    desc = libspu.link.Desc()
    desc.recv_timeout_ms = desc.http_timeout_ms = int(seconds * 1000)
    for party, port in enumerate(ports):
        desc.add_party(f"party{party}", f"127.0.0.1:{port}")
    return libspu.link.create_brpc(desc, rank)


def main(rank: int, ports: list[str], folder: Path, seconds: float) -> None:
    """Run one rank. Rank 0 prints the result."""
    signal.alarm(int(seconds))  # ends this process in any case
    graph = json.loads((folder / "graph.json").read_text())
    own = np.load(folder / ("image.npz" if rank == 0 else "private.npz"), allow_pickle=False)
    executable = _compiled(graph)
    config = libspu.RuntimeConfig(libspu.ProtocolKind.CHEETAH, libspu.FieldType.FM64)
    config.enable_pphlo_profile = True
    link = _connect(rank, ports, seconds)
    io, runtime = spu.Io(2, config), spu.Runtime(link, config)
    _share_inputs(link, io, runtime, graph, own)
    link.barrier()
    start = time.perf_counter()
    runtime.run(executable)
    match = _open(link, io, runtime.get_var("match"))
    elapsed = time.perf_counter() - start
    features = _open(link, io, runtime.get_var("features"))
    if rank == 1:
        signal.pause()  # until the parent process ends this one, when rank 0 is done
    versions = {"spu": spu.__version__, "jax": jax.__version__, "numpy": np.__version__}
    result = {"seconds": elapsed, "match": bool(match), "features": features.tolist(), "versions": versions}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)  # do not wait for SPU's own threads


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:4], Path(sys.argv[4]), float(sys.argv[5]))
