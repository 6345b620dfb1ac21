"""Define the task that every peer of the comparison does, and the result that it returns.

The task is one verification: a peer compares one photo with an enrolled template, with one network, and opens one bit.
The reference is the network in float64.
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
    """The common input of all peers, and the results of the network in float64.

    Args:
        model: a model with weights.
        photos: the photo to verify, and the photo that is enrolled.
        aligned: whether the photos are aligned crops.
        image: the photo to verify as the network's input, (1, C, H, W).
        template: the features of the enrolled photo, (d,).
        features: the features of the photo to verify, (d,).
        match: whether the Euclidean distance of both is below the model's threshold.
    """

    model: Model
    photos: tuple[Path, Path]
    aligned: bool
    image: Floats = field(repr=False)
    template: Floats = field(repr=False)
    features: Floats = field(repr=False)
    match: bool

    def error_of(self, features: Floats) -> float:
        """Return the largest absolute difference between the features (d,) and those in float64."""
        return float(np.abs(features.reshape(-1) - self.features).max())


@dataclass(frozen=True)
class Run:
    """One measured verification.

    Args:
        seconds: the time from the photo to the decision.
        match: the decision.
        max_error: the largest absolute difference between the features and those in float64.
        offline_seconds: the time of the offline phase for this verification; None if the peer has no such phase.
        bytes_online, bytes_offline: the bytes that all parties send together; None if there are no parties.
        rounds: the online rounds.
        versions: the versions of libraries outside this environment.
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
        name: its name in the table.
        security: what its security rests on.
        run: does the task once.
        most_runs: the maximal number of runs; None without limit.
        optional: whether the comparison goes on if this peer fails. Its row then gives the reason.
    """

    name: str
    security: str
    run: Callable[[], Run]
    most_runs: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class PeerResult:
    """A peer's row in the table: its runs, or the reason why it was not measured."""

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
