"""Run the network in the clear, in a process of its own, so that its memory can be measured.

    python -m hybridface.measure.modes.plain_process MODEL FOLDER RUNS

The process uses torch with one thread, in float32. The folder has image.npy, the photo as the network's input, and
template.npy, the template.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridface.errors import ModelError
from hybridface.models.model import load_model
from hybridface.processes.memory import peak_bytes

__all__ = ["main"]


def main(model_name: str, folder: Path, runs: int) -> None:
    """Print one JSON object: `peak_bytes`, and `runs`, each with match and the seconds of network and matching.

    Raises:
        ModelError: the model has no weights.
    """
    torch.set_num_threads(1)
    model = load_model(model_name)
    if model.module is None:
        raise ModelError(f"expected a model with weights, got {model_name} without")
    module = model.module.float()
    image, template = (
        torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False)).float() for name in ("image", "template")
    )
    with torch.inference_mode():
        results = [_verify(module, image, template, model.threshold) for _ in range(1 + runs)]  # one to warm up
    sys.stdout.write(json.dumps({"runs": results[1:], "peak_bytes": peak_bytes()}) + "\n")


def _verify(module: Any, image: Any, template: Any, threshold: float) -> dict[str, Any]:
    start = time.perf_counter()
    features = module(image)
    middle = time.perf_counter()
    match = bool(torch.linalg.norm(features[0] - template) < threshold)
    return {"match": match, "network": middle - start, "matching": time.perf_counter() - middle}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
