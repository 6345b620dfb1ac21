"""The public half of a network as one JSON document. The server sends it to a client that has no file of the network.

The document has all that both sides must agree on: layer graph, preprocessing, threshold, the widths of comparisons,
and the shape of a patch network. It has no weights, and no ranges that were measured. The terms of a session that
the client makes from it are those that the server makes from its own model.

The client pins the document's digest, and so notices a server that later shows it another network. A document proves
nothing about the weights.
"""

import hashlib
import json
from typing import Any

from hybridface.errors import ModelError
from hybridface.models.model import Model
from hybridface.models.preprocessing import (
    Preprocessing,
    preprocessing_document,
    preprocessing_from_document,
)
from hybridface.models.terms import hybrid_terms, pure_he_terms
from protocols.document import Document, integer, json_object, list_of, number, optional
from protocols.errors import ParameterError, ProtocolError
from protocols.network.documents import graph_document, graph_from_document
from protocols.network.graph import Graph
from protocols.network.widths import NARROWEST, Widths
from protocols.pure_he import PatchNetShape
from protocols.shares.comparison import COMPARISON_BITS

__all__ = ["FORMAT", "model_from_document", "public_digest", "public_document"]

FORMAT = 1
"""The version of documents."""

_FIELDS = {"format", "graph", "preprocessing", "threshold", "widths", "patch_shape"}
_SIZE = integer(1, 1 << 14)


def public_document(model: Model) -> dict[str, Any]:
    """Return the public half of a model, with or without weights, as a JSON object.

    Raises:
        ModelError: the model's preprocessing is a function of its own, which no document can describe.
        ParameterError: its graph has a kind of layer that documents do not have.
    """
    if not isinstance(model.normalise, Preprocessing):
        raise ModelError(f"cannot describe {model.name} to clients: expected preprocessing as data, got a function")
    return {
        "format": FORMAT,
        "graph": graph_document(model.graph),
        "preprocessing": preprocessing_document(model.normalise),
        "threshold": float(model.threshold),
        "widths": dict(model.widths),
        "patch_shape": model.patch_shape.document() if model.patch_shape else None,
    }


def public_digest(document: dict[str, Any]) -> str:
    """Return the SHA-256 of a public document in canonical form, in hexadecimal digits. Take it before the fields.

    Raises:
        ParameterError: the object has not all fields of a document; perhaps `model_from_document` has taken them.
    """
    if document.keys() != _FIELDS:
        raise ParameterError(f"expected a public document with {len(_FIELDS)} fields, got {len(document)}")
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def model_from_document(document: Document, name: str) -> Model:
    """Return the model without weights that a server's document describes. It takes all fields.

    Args:
        document: the server's document; the fields of the objects in it stay.
        name: the name by which the client asked for the model.

    Raises:
        ProtocolError: a field is missing, unknown, of another type or out of bounds, or the fields do not fit each
            other.
    """
    with document:
        document.take("format", integer(FORMAT, FORMAT))
        graph = graph_from_document(document.inner("graph"))
        preprocessing = preprocessing_from_document(document.inner("preprocessing"))
        threshold = float(document.take("threshold", number(0, 2.0**14)))
        widths = _widths(document.inner("widths"), graph)
        shape = document.take("patch_shape", optional(json_object))
    patches = None if shape is None else _patch_shape(Document(dict(shape), f"patch_shape of {document.what}"))
    model = Model(name, graph, None, threshold, preprocessing.size, preprocessing, patch_shape=patches, widths=widths)
    try:
        _check(model, preprocessing)
    except ParameterError as error:
        raise ProtocolError(f"{document.what}: {error}") from error
    return model


def _widths(document: Document, graph: Graph) -> Widths:
    """Return the widths of comparing layers, in the graph's order. `Terms` checks the rest."""
    with document:
        return {
            layer: document.take(layer, integer(NARROWEST, COMPARISON_BITS))
            for layer in graph.comparing_layers()
            if layer in document.fields
        }


def _patch_shape(document: Document) -> PatchNetShape:
    with document:
        patches, inputs = document.take("patches", _SIZE), document.take("inputs", _SIZE)
        widths = document.take("widths", list_of(_SIZE, 16, 1))
        dimension = document.take("dimension", _SIZE)
    try:
        return PatchNetShape(patches, inputs, tuple(widths), dimension)
    except ParameterError as error:
        raise ProtocolError(f"{document.what}: {error}") from error


def _check(model: Model, preprocessing: Preprocessing) -> None:
    """Raise `ParameterError` if the parts do not fit each other, or give no terms."""
    graph, shape = model.graph, model.patch_shape
    if preprocessing.output_shape != graph.input_shape:
        raise ParameterError(f"expected an input {preprocessing.output_shape} of the graph, got {graph.input_shape}")
    if len(graph.output_shape) != 1:
        raise ParameterError(f"expected an embedding as output of the graph, got shape {graph.output_shape}")
    hybrid_terms(model)
    if shape is None:
        return
    if (shape.patches * shape.inputs, 1, 1) != graph.input_shape or (shape.dimension,) != graph.output_shape:
        raise ParameterError(f"expected a patch network as large as the graph, got {shape}")
    pure_he_terms(model).document()
