"""What the sessions of either mode take from a model: the terms that both sides must agree on, weights and inputs."""

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models.budget import check_budget
from hybridface.models.model import Model
from parties.session.correlations import Correlations
from parties.session.pure_he import PureHeTerms
from parties.session.terms import Terms
from protocols.matching.reveal import Reveal
from protocols.pure_he import PatchNetWeights, PureHeParameters

__all__ = ["hybrid_terms", "pure_he_inputs", "pure_he_terms", "pure_he_weights"]


def hybrid_terms(model: Model, reveal: Reveal = Reveal.CLIENT, correlations: Correlations = Correlations.OT) -> Terms:
    """Return the terms; both sides make them from the same model, the client from one without weights."""
    return Terms(model.graph, model.threshold, reveal, widths=model.widths, correlations=correlations)


def pure_he_terms(model: Model, max_answers: int = 50, parameters: PureHeParameters | None = None) -> PureHeTerms:
    """Return the public terms of a session with a model.

    Args:
        max_answers: scores that the server gives in a session.
        parameters: of the encryption; by default those that the network needs.

    Raises:
        ModelError: the model is no patch network.
    """
    if model.patch_shape is None:
        raise ModelError(f"expected a patch network (patchnet) for pure-HE mode, got {model.name}")
    return PureHeTerms(model.patch_shape, model.threshold, parameters, max_answers)


def pure_he_weights(model: Model) -> PatchNetWeights:
    """Return a model's weights for the server, if its values fit the encryption.

    Raises:
        ModelError: it is no patch network with weights, or one whose largest values need more room (`models.budget`).
    """
    if model.patch_weights is None:
        raise ModelError(f"expected a patch network with weights, got {model.name} without")
    if model.patch_ranges:
        check_budget(model.patch_ranges)
    return model.patch_weights


def pure_he_inputs(model: Model, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an input of the model's layer graph as the patches (P, inputs) of its patch network."""
    if model.patch_shape is None:
        raise ModelError(f"expected a patch network (patchnet) for pure-HE mode, got {model.name}")
    return image.reshape(model.patch_shape.patches, model.patch_shape.inputs)
