"""The terms of a hybrid session about a model: what client and server must agree on."""

from hybridface.models import Model
from parties.session.correlations import Correlations
from parties.session.terms import Terms
from protocols.matching.distance import Reveal

__all__ = ["hybrid_terms"]


def hybrid_terms(model: Model, reveal: Reveal = Reveal.CLIENT, correlations: Correlations = Correlations.OT) -> Terms:
    """Return the terms; both sides make them from the same model, the client from one without weights."""
    return Terms(model.graph, model.threshold, reveal, widths=model.widths, correlations=correlations)
