"""Layer graphs as documents: every kind comes back as it was; what does not fit, or is too large, is refused."""

import copy
import json
import tracemalloc
from typing import Any

import pytest

from protocols.document import Document, parsed
from protocols.errors import ParameterError, ProtocolError
from protocols.network import documents, layers
from protocols.network.documents import MAX_NODES, graph_document, graph_from_document
from protocols.network.graph import Graph, Node
from protocols.network.layers import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Pad,
    PReLU,
    ReLU,
    Square,
)

EVERY_KIND = Graph(
    (3, 16, 16),
    (
        Conv2d("conv", ("input",), 8, (3, 2), (2, 1), (1, 0)),
        MaxPool2d("pool", ("conv",), (3, 2), (2, 1), (1, 0)),
        ReLU("relu", ("pool",)),
        LeakyReLU("leaky", ("relu",), 0.125),
        Conv2d("depthwise", ("leaky",), 8, (3, 3), (1, 1), (1, 1), 8),
        PReLU("prelu", ("depthwise",)),
        Square("square", ("relu",)),
        Add("add", ("square", "prelu")),
        Pad("pad", ("add",), (1, 0, 2)),
        AvgPool2d("average", ("pad",), (0, 0), (1, 1)),
        Flatten("flatten", ("average",)),
        Conv2d("fc", ("flatten",), 5, flat=True),
    ),
)


def read(document: dict[str, Any]) -> Graph:
    """Return the graph of a document that went over a wire."""
    return graph_from_document(parsed(json.dumps(document).encode(), "a test"))


def input_shape(*shape: int) -> dict[str, Any]:
    """Return the document of a graph without nodes."""
    return {"input_shape": list(shape), "nodes": []}


def conv(name: str, source: str, channels_out: int, **options: Any) -> dict[str, Any]:
    """Return the document of a convolution."""
    return documents._node_document(Conv2d(name, (source,), channels_out, **options))


def test_every_kind_comes_back() -> None:
    assert {type(node) for node in EVERY_KIND.nodes} == {
        kind for name in layers.__all__ if isinstance(kind := getattr(layers, name), type) and issubclass(kind, Node)
    }
    found = read(graph_document(EVERY_KIND))
    assert found == EVERY_KIND
    assert found.digest() == EVERY_KIND.digest()
    assert [type(value) for node in found.nodes for value in vars(node).values()] == [
        type(value) for node in EVERY_KIND.nodes for value in vars(node).values()
    ]


def test_a_whole_slope_is_the_same_slope() -> None:
    document = graph_document(Graph((4,), (Conv2d("fc", ("input",), 4, flat=True), LeakyReLU("leaky", ("fc",), 1.0))))
    expected = read(document).digest()
    document["nodes"][1]["slope"] = 1
    assert read(document).digest() == expected


def test_a_kind_of_one_s_own_has_no_document() -> None:
    class Other(ReLU):
        """A kind that is not in the table."""

    with pytest.raises(ParameterError, match="expected one of Conv2d, .*, got Other"):
        graph_document(Graph((4,), (Other("other", ("input",)),)))


def test_reading_leaves_the_nodes_as_they_are() -> None:
    document = graph_document(EVERY_KIND)
    nodes = copy.deepcopy(document["nodes"])
    graph_from_document(Document(document, "a test"))
    assert document == {}
    assert EVERY_KIND.nodes[0].name == nodes[0]["name"]
    again = {"input_shape": [3, 16, 16], "nodes": nodes}
    graph_from_document(Document(dict(again), "a test"))
    assert nodes == graph_document(EVERY_KIND)["nodes"]


@pytest.mark.parametrize("index", range(len(EVERY_KIND.nodes)))
def test_every_field_of_a_node_is_needed_and_no_other(index: int) -> None:
    for name in graph_document(EVERY_KIND)["nodes"][index]:
        for wrong in (None, [1] * 5, {}, 1e300):
            document = graph_document(EVERY_KIND)
            document["nodes"][index][name] = wrong
            with pytest.raises(ProtocolError):
                read(document)
        document = graph_document(EVERY_KIND)
        del document["nodes"][index][name]
        with pytest.raises(ProtocolError, match=f"expected {name} to be .*, got nothing"):
            read(document)
    for name in ("other", "work", "reads_encrypted", "__class__"):
        document = graph_document(EVERY_KIND)
        document["nodes"][index][name] = True
        with pytest.raises(ProtocolError, match="expected no other fields"):
            read(document)


CHANGED = {
    "an unknown kind": (0, {"kind": "Node"}, "expected kind to be one of Conv2d"),
    "a kind that is a list": (0, {"kind": []}, "expected kind to be one of Conv2d"),
    "a name with a line break": (0, {"name": "a\nb"}, "expected name to be a name of 1 to 80"),
    "a name twice": (2, {"name": "pool"}, "expected unique node names"),
    "a name of the input": (0, {"name": "input"}, "expected unique node names"),
    "an input that comes later": (1, {"inputs": ["relu"]}, "expected inputs defined earlier"),
    "one input too many": (2, {"inputs": ["pool", "pool"]}, "expected one input"),
    "a layer that nobody reads": (11, {"inputs": ["input"]}, "flatten: expected a layer that another one reads|axes"),
    "a stride of 0": (0, {"stride": [0, 1]}, "expected stride"),
    "groups that do not divide": (0, {"groups": 2}, "expected groups that divide"),
    "a pool padded by more than half": (1, {"padding": [2, 0]}, "expected padding up to half"),
    "half a whole image": (9, {"kernel": [0, 1]}, "expected a kernel and a stride of at least 1"),
    "a fully connected layer with padding": (11, {"padding": [1, 1]}, "fc: expected an output of"),
    "a fully connected layer with a kernel": (11, {"kernel": [2, 2]}, "expected a kernel no larger"),
    "a slope too small": (3, {"slope": 1e-20}, "expected a factor of magnitude"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    index, change, message = CHANGED[case]
    document = graph_document(EVERY_KIND)
    document["nodes"][index] |= change
    with pytest.raises(ProtocolError, match=message):
        read(document)


def test_only_convolutions_read_the_input() -> None:
    document = input_shape(4)
    document["nodes"] = [documents._node_document(ReLU("relu", ("input",)))]
    with pytest.raises(ProtocolError, match="expected only convolutions to read the network's input"):
        read(document)


def test_a_layer_that_nobody_reads_is_refused() -> None:
    document = input_shape(4)
    document["nodes"] = [conv(name, "input", 4, flat=True) for name in ("lonely", "last")]
    with pytest.raises(ProtocolError, match="lonely: expected a layer that another one reads"):
        read(document)


TOO_LARGE = {
    "an output": ((2, 2048, 1025), [conv("a", "input", 1)], "expected at most 4194304 numbers, got"),
    "an output of many channels": ((1, 1024, 1024), [conv("a", "input", 5)], "a: expected at most 4194304 numbers"),
    "weights": ((1 << 13,), [conv("a", "input", 1 << 12, flat=True)], "expected at most 16777216 weights"),
    "padding": ((1 << 10, 1, 1), [conv("a", "input", 1, padding=(64, 64), stride=(64, 64))], "numbers with padding"),
    "channels in all": (
        (64, 1, 1),
        [conv("a0", "input", 1 << 14, groups=64)]
        + [conv(f"a{i}", f"a{i - 1}", 1 << 14, groups=1 << 14) for i in range(1, 9)],
        "all layers: expected at most 262144 channels",
    ),
    "strides": ((1 << 11, 1, 1), [conv("a", "input", 1, stride=(64, 64))], "numbers with padding"),
    "outputs in all": (
        (1, 1024, 1024),
        [conv("a0", "input", 4), *(documents._node_document(ReLU(f"a{i}", (f"a{i - 1}",))) for i in range(1, 5))],
        "all layers: expected at most 16777216 numbers",
    ),
    "products in all": (
        (64, 240, 240),
        [conv("a", "input", 64, kernel=(9, 9), padding=(4, 4))],
        "all layers: expected at most 4294967296 products",
    ),
    "windows": (
        (1, 1024, 1024),
        [
            conv("a", "input", 1),
            documents._node_document(MaxPool2d("b", ("a",), (8, 8), (1, 1))),
        ],
        "b: expected at most 4194304 numbers in windows",
    ),
    "windows of means": (
        (1, 1024, 1024),
        [conv("a", "input", 1), documents._node_document(AvgPool2d("b", ("a",), (8, 8), (1, 1)))],
        "b: expected at most 4194304 numbers in windows",
    ),
    "padding of a pool": (
        (1 << 11, 1, 1),
        [
            conv("a", "input", 1 << 11, groups=1 << 11),
            documents._node_document(MaxPool2d("b", ("a",), (64, 64), (1, 1), (32, 32))),
        ],
        "b: expected at most 4194304 numbers",
    ),
    "zeros": (
        (1, 1024, 1024),
        [conv("a", "input", 1), documents._node_document(Pad("b", ("a",), (4, 0, 0)))],
        "b: expected at most 4194304 numbers",
    ),
    "zeros that overflow": (
        (1, 1, 1),
        [
            conv("a0", "input", 1),
            *(documents._node_document(Pad(f"a{i}", (f"a{i - 1}",), (4096, 4096, 4096))) for i in range(1, 1998)),
            documents._node_document(Flatten("flat", ("a1997",))),
        ],
        "expected at most 4194304 numbers|the output would have shape",
    ),
    "nodes": (
        (4,),
        [conv("a", "input", 4, flat=True)] * (MAX_NODES + 1),
        "a list of at most 2000",
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_too_large_is_refused_before_it_takes_memory(case: str) -> None:
    shape, nodes, message = TOO_LARGE[case]
    document = input_shape(*shape) | {"nodes": nodes}
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=message):
            graph_from_document(Document(document, "a test"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
