"""The public half of a network as a document: the client's terms are the server's, and what does not fit is refused."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridface.errors import ModelError
from hybridface.models import MODELS, PATCH_NETWORKS
from hybridface.models.model import Model, load_model
from hybridface.models.public import model_from_document, public_digest, public_document
from hybridface.models.terms import hybrid_terms, pure_he_inputs, pure_he_terms
from protocols.document import parsed
from protocols.errors import ParameterError, ProtocolError
from protocols.network.emulator import Emulator

MAX_BYTES = 1 << 20
PUBLIC = {name: public_document(load_model(name, weights=False)) for name in MODELS}


def read(document: dict[str, Any], name: str = "tiny-test") -> Model:
    """Return the model of a document that went over a wire."""
    return model_from_document(parsed(json.dumps(document).encode(), "the server's model"), name)


@pytest.mark.parametrize("name", MODELS)
def test_the_client_s_terms_are_the_server_s(name: str) -> None:
    server = load_model(name).with_threshold(0.7)
    document = public_document(server)
    assert len(json.dumps(document)) < MAX_BYTES
    client = read(document, name)
    assert hybrid_terms(client) == hybrid_terms(server)
    assert hybrid_terms(client).document() == hybrid_terms(server).document()
    assert client.graph.shapes() == server.graph.shapes()
    assert (client.name, client.chip_size, client.threshold) == (name, server.chip_size, 0.7)
    assert client.weights is client.module is client.patch_weights is client.patch_ranges is None
    chip = np.random.default_rng(1).integers(0, 256, (client.chip_size, client.chip_size, 3), dtype=np.uint8)
    assert client.normalise(chip).tobytes() == server.normalise(chip).tobytes()


@pytest.mark.parametrize("name", PATCH_NETWORKS)
def test_the_client_s_terms_in_pure_he_mode_are_the_server_s(name: str) -> None:
    server, client = load_model(name), read(PUBLIC[name], name)
    assert pure_he_terms(client).document() == pure_he_terms(server).document()
    chip = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    inputs = [pure_he_inputs(model, model.normalise(chip)) for model in (client, server)]
    assert inputs[0].tobytes() == inputs[1].tobytes()


def test_the_server_s_weights_fit_the_client_s_graph() -> None:
    server, client = load_model("tiny-test"), read(PUBLIC["tiny-test"])
    image = np.random.default_rng(3).uniform(-1, 1, (1, 3, 16, 16))
    expected = Emulator(server.graph, server.weights or {}).run(image)
    assert np.array_equal(Emulator(client.graph, server.weights or {}).run(image), expected)


@pytest.mark.parametrize("name", MODELS)
def test_the_document_is_the_same_with_weights_and_after_the_wire(name: str) -> None:
    expected = public_digest(PUBLIC[name])
    assert public_digest(public_document(load_model(name))) == expected
    assert public_digest(json.loads(json.dumps(PUBLIC[name]))) == expected
    assert public_digest(dict(reversed(PUBLIC[name].items()))) == expected
    client = read(PUBLIC[name], name)
    assert public_document(client) == PUBLIC[name]


def test_digests_are_those_of_canonical_json() -> None:
    """A client pins digests, so they must not change from one version to the next."""
    assert public_digest(PUBLIC["tiny-test"]) == "3135814a83cc6d8416440becb4cb8a65426988d25358c1d718362b281571e565"


def test_a_change_changes_the_digest() -> None:
    model = load_model("tiny-test", weights=False)
    documents = [public_document(model), public_document(model.with_threshold(0.61))]
    layer = next(iter(model.graph.comparing_layers()))
    documents.append(public_document(replace(model, widths={**model.widths, layer: 28})))
    for change in ("graph", "preprocessing"):
        documents.append(copy.deepcopy(documents[0]))
        inside = documents[-1][change]
        if change == "graph":
            inside["nodes"][0]["channels_out"] = 16
        else:
            inside["means"][1] = 127
    assert len({public_digest(document) for document in documents}) == len(documents)


def test_a_document_whose_fields_were_taken_has_no_digest() -> None:
    document = copy.deepcopy(PUBLIC["tiny-test"])
    taken = parsed(json.dumps(document).encode(), "a test")
    model_from_document(taken, "tiny-test")
    with pytest.raises(ParameterError, match="expected a public document with 6 fields, got 0"):
        public_digest(taken.fields)


def test_a_document_has_no_weights() -> None:
    """All numbers of a document are those of the client's model, which has no weights."""
    for name in MODELS:
        assert PUBLIC[name] == public_document(load_model(name))


def test_preprocessing_that_is_a_function_has_no_document() -> None:
    model = replace(load_model("tiny-test", weights=False), normalise=lambda chip: chip.astype(np.float64))
    with pytest.raises(ModelError, match="cannot describe tiny-test to clients: expected preprocessing as data"):
        public_document(model)


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "another format": ("tiny-test", {"format": 2}, "expected format"),
    "a threshold of 0": ("tiny-test", {"threshold": 0}, "expected a threshold above 0"),
    "a threshold too large": ("tiny-test", {"threshold": 2**14}, "expected a threshold above 0"),
    "a threshold as text": ("tiny-test", {"threshold": "0.6"}, "expected threshold"),
    "a width for no layer": ("tiny-test", {"widths": {"conv": 28}}, "expected no other fields"),
    "a width that none has": ("tiny-test", {"widths": {"relu": 27}}, "expected widths of 19, 22, 28, 32 bits"),
    "a width too small": ("tiny-test", {"widths": {"relu": 16}}, "expected relu to be a whole number"),
    "widths as a list": ("tiny-test", {"widths": []}, "expected widths to be an object"),
    "a graph as a list": ("tiny-test", {"graph": []}, "expected graph to be an object"),
    "another field": ("tiny-test", {"weights": {}}, "expected no other fields"),
    "preprocessing of another size": (
        "tiny-test",
        {"preprocessing": PUBLIC["dlib-resnet29"]["preprocessing"]},
        r"expected an input \(3, 150, 150\) of the graph, got \(3, 16, 16\)",
    ),
    "patches for a network without": (
        "tiny-test",
        {"patch_shape": PUBLIC["patchnet"]["patch_shape"]},
        "expected a patch network as large as the graph",
    ),
    "patches of another number": (
        "patchnet",
        {"patch_shape": PUBLIC["patchnet"]["patch_shape"] | {"patches": 64}},
        "expected a patch network as large as the graph",
    ),
    "an embedding of another size": (
        "patchnet",
        {"patch_shape": PUBLIC["patchnet"]["patch_shape"] | {"dimension": 64}},
        "expected a patch network as large as the graph",
    ),
    "widths of patches that are no power of two": (
        "patchnet",
        {"patch_shape": PUBLIC["patchnet"]["patch_shape"] | {"widths": [63]}},
        "all sizes powers of two",
    ),
    "too many squares": (
        "patchnet",
        {"patch_shape": PUBLIC["patchnet"]["patch_shape"] | {"widths": [64] * 15}},
        "expected 1 to 14 widths",
    ),
    "an output that is an image": (
        "tiny-test",
        {"graph": {**PUBLIC["tiny-test"]["graph"], "nodes": PUBLIC["tiny-test"]["graph"]["nodes"][:1]}},
        "expected an embedding as output of the graph",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case: str) -> None:
    name, change, message = WRONG[case]
    document = PUBLIC[name] | change
    if case == "an output that is an image":
        document["widths"] = {}
    with pytest.raises(ProtocolError, match=message):
        read(document, name)


@pytest.mark.parametrize("name", MODELS)
def test_every_field_is_needed(name: str) -> None:
    for field in PUBLIC[name]:
        with pytest.raises(ProtocolError, match=f"expected {field} to be .*, got nothing"):
            read({key: value for key, value in PUBLIC[name].items() if key != field}, name)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value within a document."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["input", "conv", "relu", "Conv2d", "ReLU", "Pad", "Flatten", "patches", 1 << 20, [1, 1], [64, 64]]
    ),
    st.lists(st.integers(0, 2**20), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
PLACES = {name: places(PUBLIC[name])[1:] for name in MODELS}


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(MODELS))
def test_a_mutated_document_gives_a_model_with_terms_or_a_protocol_error(data: st.DataObject, name: str) -> None:
    document = copy.deepcopy(PUBLIC[name])
    for path in data.draw(st.lists(st.sampled_from(PLACES[name]), min_size=1, max_size=3)):
        *parents, last = path
        holder: Any = document
        try:
            for key in parents:
                holder = holder[key]
            holder[last] = data.draw(VALUES)
        except (TypeError, KeyError, IndexError):
            continue  # an earlier mutation has taken this place away
    try:
        model = read(document, name)
    except ProtocolError:
        return
    assert sum(np.prod(shape, dtype=object) for shape in model.graph.shapes().values()) <= 1 << 24
    assert hybrid_terms(model).document()
    assert public_document(model).keys() == document.keys()
