"""Take from a model what sessions in either mode need: terms that both parties must agree on, weights and inputs."""

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
    """Return the terms of a session in hybrid mode. Both parties make them from the same model.

    The client's model has no weights.
    """
    return Terms(model.graph, model.threshold, reveal, widths=model.widths, correlations=correlations)


def pure_he_terms(model: Model, max_answers: int = 50, parameters: PureHeParameters | None = None) -> PureHeTerms:
    """Return the terms of a session in pure-HE mode. They are public.

    Args:
        max_answers: the number of scores that the server gives in a session.
        parameters: the encryption parameters; by default those that the network needs.

    Raises:
        ModelError: the model is not a patch network.
    """
    if model.patch_shape is None:
        raise ModelError(f"expected a patch network (patchnet) for pure-HE mode, got {model.name}")
    return PureHeTerms(model.patch_shape, model.threshold, parameters, max_answers)


def pure_he_weights(model: Model) -> PatchNetWeights:
    """Return a model's weights for the server, if its values fit the ciphertexts.

    Raises:
        ModelError: the model is not a patch network with weights, or its largest values need more room
            (`models.budget`).
    """
    if model.patch_weights is None:
        raise ModelError(f"expected a patch network with weights, got {model.name} without")
    if model.patch_ranges:
        check_budget(model.patch_ranges)
    return model.patch_weights


def pure_he_inputs(model: Model, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an input of the model's layer graph as patches (P, inputs) for its patch network."""
    if model.patch_shape is None:
        raise ModelError(f"expected a patch network (patchnet) for pure-HE mode, got {model.name}")
    return image.reshape(model.patch_shape.patches, model.patch_shape.inputs)
