"""Layer graphs as programs for SPU: carried out by torch, channels last, they give what the network gives."""

import json
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hybridface.measure.peers.spu_program import arrays_of, program_of
from hybridface.models.model import load_model


def carry_out(program: list[dict[str, Any]], arrays: dict[str, Any], image: Any) -> Any:
    """Carry out a program as `spu_network.py` does, by other means."""
    done = [torch.from_numpy(image.transpose(0, 2, 3, 1).copy())]
    for step in program:
        inputs = [done[number] for number in step["inputs"]]
        done.append(apply(step, inputs, arrays))
    return done[-1].numpy()


def apply(step: dict[str, Any], inputs: list[Any], arrays: dict[str, Any]) -> Any:
    x, *others = inputs
    match step["kind"]:
        case "linear":
            weight, bias = (torch.from_numpy(arrays[f"{step['name']}.{part}"].copy()) for part in ("weight", "bias"))
            if step["form"] == "convolution":
                options = {"stride": step["stride"], "padding": step["padding"], "groups": step["groups"]}
                images = functional.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), **options)
                return images.permute(0, 2, 3, 1) + bias
            return (x * weight if step["form"] == "slopes" else x @ weight) + bias
        case "relu":
            return x.clamp(min=0)
        case "add":
            return x + others[0]
        case "subtract":
            return x - others[0]
        case "max_pool":
            pooled = functional.max_pool2d(x.permute(0, 3, 1, 2), step["kernel"], step["stride"], step["padding"])
            return pooled.permute(0, 2, 3, 1)
        case "average_pool":
            kernel = step["kernel"] if tuple(step["kernel"]) != (0, 0) else x.shape[1:3]
            return functional.avg_pool2d(x.permute(0, 3, 1, 2), kernel, step["stride"]).permute(0, 2, 3, 1)
        case "pad":
            channels, below, right = step["amount"]
            return functional.pad(x, (0, channels, 0, right, 0, below))
        case "flatten":
            return x.permute(0, 3, 1, 2).flatten(1)
    raise AssertionError(f"an operation that SPU's program does not know: {step['kind']}")


def test_the_program_computes_the_network() -> None:
    model = load_model("tiny-test")
    program = json.loads(json.dumps(program_of(model.graph)))
    image = np.random.default_rng(0).uniform(-1, 1, (1, *model.graph.input_shape))
    found = carry_out(program, arrays_of(model.graph, model.weights or {}), image)
    assert model.module is not None
    with torch.inference_mode():
        expected = model.module(torch.from_numpy(image)).numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    assert {step["kind"] for step in program} >= {"linear", "relu", "max_pool", "average_pool", "add", "pad", "flatten"}
    assert {step.get("form") for step in program} == {None, "convolution", "slopes", "dense"}
