"""The tiny network: in the clear, and photos for it."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hybridface.models.model import Model, load_model

__all__ = ["Chip", "pair_of", "plaintext", "save_chips", "save_people"]

Chip = NDArray[np.uint8]


def plaintext(model: Model, chips: Any) -> NDArray[np.float64]:
    assert model.module is not None
    with torch.inference_mode():
        images = np.stack([model.normalise(chip) for chip in chips])
        return np.asarray(model.module(torch.from_numpy(images)).numpy())


def pair_of(model: Model, chips: Chip) -> NDArray[np.float64]:
    """Return the first two chips as a client's input."""
    return np.stack([model.normalise(chip) for chip in chips[:2]])


def save_chips(folder: Path, seed: int, name: str = "{}.png") -> dict[str, str]:
    """Save aligned random chips for the tiny network: "a" and "same" match, "a" and "different" do not.

    Args:
        seed: of the chips; not every seed has such a pair among its 16.
        name: of a file, with {} for the chip's.

    Returns:
        The files' paths by name.
    """
    model = load_model("tiny-test")
    chips = np.random.default_rng(seed).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    features = plaintext(model, chips)
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    first, same = next((i, j) for i, j in combinations(range(16), 2) if distance[i, j] < 0.5)
    different = next(j for j in range(16) if distance[first, j] > 0.75)
    paths = {}
    for label, index in {"a": first, "same": same, "different": different}.items():
        paths[label] = str(folder / name.format(label))
        Image.fromarray(chips[index]).save(paths[label])
    return paths


def save_people(folder: Path, count: int) -> Path:
    """Save an aligned random chip for each of many people, as `import` takes them, and return the folder."""
    folder.mkdir()
    for number, chip in enumerate(np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(chip).save(folder / f"{number}.png")
    return folder
