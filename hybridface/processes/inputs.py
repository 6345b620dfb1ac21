"""A rank's own inputs, read before it joins the others: if reading fails, no other rank is left waiting for MPI."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.inputs import load_images
from hybridface.galleries.tasks import GalleryTask, read_tasks
from hybridface.models.model import Model, load_model
from hybridface.processes.runs import GalleryRun, HybridRun, PureHeRun, Run
from parties.gallery.key import read_key
from parties.transport.roles import Role
from protocols.errors import ParameterError

__all__ = ["ClientInputs", "client_inputs", "read_inputs"]

_PHOTOS = 2


@dataclass(frozen=True)
class ClientInputs:
    """The client's inputs.

    Args:
        model: the network, without weights.
        images: two photos, float64 (2, C, H, W); empty for a gallery or to prepare runs.
        tasks: the tasks for a gallery.
    """

    model: Model
    images: NDArray[np.float64]
    tasks: tuple[GalleryTask, ...] = ()


def read_inputs(role: Role, run: Run) -> ClientInputs | Model | None:
    """Read the inputs that a rank has of its own; for the server and its workers, the network with weights.

    Raises:
        HybridFaceError: a photo, the weights, a key or the tasks cannot be used.
    """
    match role:
        case Role.CLIENT:
            model = load_model(run.model, weights=False, path=run.weights).with_threshold(run.threshold)
            return client_inputs(run, model)
        case Role.SERVER | Role.WORKER:
            return load_model(run.model, weights=True, path=run.weights).with_threshold(run.threshold)
    return None


def client_inputs(run: Run, model: Model) -> ClientInputs:
    """Read the client's inputs of a run.

    Args:
        model: the network, without weights.

    Raises:
        HybridFaceError: a photo, a key or the tasks cannot be used.
    """
    images = np.empty((0, *model.graph.input_shape))
    match run:
        case HybridRun() | PureHeRun():
            if isinstance(run, HybridRun):
                _check_counts(run)
            if len(run.photos) != _PHOTOS:
                raise ParameterError(f"expected two photos, got {len(run.photos)}")
            images = load_images(model, run.photos, run.aligned, run.reading)
        case GalleryRun():
            if run.tasks is None:
                raise ParameterError("expected --tasks for a gallery, got none")
            if run.key is not None:
                read_key(run.key)
            return ClientInputs(model, images, tuple(read_tasks(run.tasks)))
    return ClientInputs(model, images)


def _check_counts(run: HybridRun) -> None:
    if run.batch > 1 and not run.enrolled:
        raise ParameterError("expected --enrolled with --batch, which verifies photos against a template")
    if run.pool and (run.batch > 1 or not run.enrolled):
        raise ParameterError("expected --enrolled and no --batch with --pool, which prepares single photos")
