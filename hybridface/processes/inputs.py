"""What a rank has of its own, read before it joins the others: if that fails, none of them is left waiting for MPI."""

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

__all__ = ["ClientInputs", "read_inputs"]

_PHOTOS = 2


@dataclass(frozen=True)
class ClientInputs:
    """The client's.

    Args:
        model: the network, without weights.
        images: two photos, float64 (2, C, H, W); none for a gallery or to prepare.
        tasks: for a gallery.
    """

    model: Model
    images: NDArray[np.float64]
    tasks: tuple[GalleryTask, ...] = ()


def read_inputs(role: Role, run: Run) -> ClientInputs | Model | None:
    """Read what a rank of a run has of its own: of the server and its workers the network with weights.

    Raises:
        HybridFaceError: a photo, the weights, a key or the tasks cannot be used.
    """
    match role:
        case Role.CLIENT:
            return _client(run)
        case Role.SERVER | Role.WORKER:
            return load_model(run.model, weights=True, path=run.weights)
    return None


def _client(run: Run) -> ClientInputs:
    model = load_model(run.model, weights=False, path=run.weights)
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
                raise ParameterError("expected tasks for a gallery")
            if run.key is not None:
                read_key(run.key)
            return ClientInputs(model, images, tuple(read_tasks(run.tasks)))
    return ClientInputs(model, images)


def _check_counts(run: HybridRun) -> None:
    if run.batch > 1 and not run.enrolled:
        raise ParameterError("expected an enrolled template to verify a batch of photos against")
    if run.pool and (run.batch > 1 or not run.enrolled):
        raise ParameterError("a pool holds verifications of one photo against an enrolled template, expected such ones")
