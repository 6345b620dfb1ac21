"""What every peer of the comparison is asked, and what it answers.

The task: one photo against an enrolled template, by one network, to one bit. The reference is the network in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.faces.inputs import load_images
from hybridface.models.model import Model

__all__ = ["Peer", "PeerResult", "PeerTask", "Run", "make_task"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PeerTask:
    """The common input, and the answers of the network in float64.

    Args:
        model: with weights.
        photos: the photo, and the one that is enrolled.
        aligned: the photos are aligned chips.
        image: the photo as the network's input, (1, C, H, W).
        template: features of the enrolled photo, (d,).
        features: of the photo, (d,).
        match: whether their Euclidean distance is under the model's threshold.
    """

    model: Model
    photos: tuple[Path, Path]
    aligned: bool
    image: Floats = field(repr=False)
    template: Floats = field(repr=False)
    features: Floats = field(repr=False)
    match: bool

    def error_of(self, features: Floats) -> float:
        """Return the largest absolute difference of the features (d,) to those in float64."""
        return float(np.abs(features.reshape(-1) - self.features).max())


@dataclass(frozen=True)
class Run:
    """One measured verification.

    Args:
        seconds: from the photo to the decision.
        match: the decision.
        max_error: largest absolute difference of the features to those in float64.
        offline_seconds: work for this verification before the photo is there; None where there is no such phase.
        bytes_online, bytes_offline: sent by all parties together, in both directions; None where there are no parties.
        rounds: messages one after another, online.
        versions: of libraries outside this environment.
    """

    seconds: float
    match: bool
    max_error: float
    offline_seconds: float | None = None
    bytes_online: int | None = None
    bytes_offline: int | None = None
    rounds: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """One way to do the task.

    Args:
        name: in the table.
        security: what its security rests on.
        run: does the task once.
        most_runs: more are not asked for; None without limit.
        optional: a failure is reported in its row, and ends nothing else.
    """

    name: str
    security: str
    run: Callable[[], Run]
    most_runs: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class PeerResult:
    """A peer's row: its runs, or why there are none."""

    name: str
    security: str
    runs: tuple[Run, ...]
    reason: str | None = None


def make_task(model: Model, photos: tuple[Path, Path], aligned: bool = False) -> PeerTask:
    """Return the task for a model with weights.

    Raises:
        ModelError: the model has no weights.
        ImageError: a photo is unreadable, or does not show exactly one face.
    """
    if model.module is None:
        raise ModelError(f"expected a model with weights, got {model.name} without")
    images = load_images(model, list(photos), aligned)
    with torch.inference_mode():
        features, template = model.module(torch.from_numpy(images)).numpy()
    match = bool(np.linalg.norm(features - template) < model.threshold)
    return PeerTask(model, photos, aligned, images[:1], template, features, match)
