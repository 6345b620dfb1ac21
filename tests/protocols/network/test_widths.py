"""Widths of comparisons: chosen by ranges, public terms, exact within their ranges, and an error beyond them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hybridface.models import MODELS
from hybridface.models.model import load_model
from hybridface.models.ranges import known_ranges
from hybridface.models.terms import hybrid_terms
from protocols.arithmetic.fixed_point import encode
from protocols.errors import ParameterError, ProtocolError
from protocols.network.emulator import Emulator
from protocols.network.graph import Graph, LinearWeights
from protocols.network.layers import Conv2d, MaxPool2d, ReLU
from protocols.network.private import NetworkClient, NetworkServer
from protocols.network.widths import choose_width, range_of
from protocols.shares.comparison import COMPARISON_BITS
from support.sessions import Ends
from support.shares import on_shares


@pytest.mark.parametrize(
    ("largest", "bits"), [(0.0, 19), (1.99, 19), (2.0, 22), (15.9, 22), (16.0, 28), (1000.0, 28), (1024.0, 32)]
)
def test_the_narrowest_width_with_a_margin_of_two(largest: float, bits: int) -> None:
    assert choose_width(largest) == bits
    assert 2 * largest < range_of(bits)


def test_no_width_reaches_everywhere() -> None:
    with pytest.raises(ParameterError, match="expected magnitudes below 16384, got 20000"):
        choose_width(20_000)


@pytest.mark.parametrize("name", MODELS)
def test_widths_of_the_known_networks_are_those_of_their_ranges(name: str) -> None:
    model = load_model(name, weights=False)
    ranges = known_ranges(name)
    for layer in model.graph.comparing_layers():
        bits = model.widths.get(layer, COMPARISON_BITS)
        assert bits == (choose_width(ranges[layer]) if layer in ranges else COMPARISON_BITS)
    assert ranges.keys() <= model.graph.comparing_layers().keys()


def test_the_default_network_was_measured() -> None:
    assert known_ranges("dlib-resnet29").keys() == load_model(weights=False).graph.comparing_layers().keys()


CONV = Conv2d("conv", ("input",), 1)
GRAPH = Graph((1, 2, 4), (CONV, MaxPool2d("pool", ("conv",), (1, 2), (1, 2)), ReLU("relu", ("pool",))))
WEIGHTS = {"conv": LinearWeights(np.ones((1, 1, 1, 1)))}


def test_a_network_of_narrow_comparisons_is_exact_in_their_ranges(keys: Any, public_key: Any) -> None:
    widths = {"pool": 22, "relu": 19}
    image = np.array([[[[3.99, -3.99, 1.0, 2.0], [-2.5, -1.5, -0.5, 0.25]]]])
    expected = Emulator(GRAPH, WEIGHTS, widths=widths).run(image)
    client, server = NetworkClient(GRAPH, keys, widths=widths), NetworkServer(GRAPH, WEIGHTS, public_key, widths=widths)

    def side(party: Any, _: Any) -> Any:
        own = server if party.rank else client
        party.correlations.prepare(own.requests())
        return own.run(party, None if party.rank else encode(image))

    first, second = on_shares(side, np.zeros(1, dtype=np.uint64))
    assert np.abs((first + second).view(np.int64) - expected).max() <= 1
    narrow = sum(int(np.prod(f.shape)) for r in client.requests() for f in r.derived)
    assert narrow < sum(int(np.prod(f.shape)) for r in NetworkClient(GRAPH, keys).requests() for f in r.derived)


def test_an_emulator_that_is_told_the_widths_finds_what_lies_beyond() -> None:
    emulator = Emulator(GRAPH, WEIGHTS, widths={"relu": 19})
    emulator.run(np.full((1, 1, 2, 4), 3.99))
    assert emulator.ranges == {"pool": pytest.approx(7.98, abs=1e-3), "relu": pytest.approx(3.99, abs=1e-3)}
    with pytest.raises(ParameterError, match="relu: expected magnitudes below 4, where comparisons on 19 bits are"):
        emulator.run(np.full((1, 1, 2, 4), 4.0))
    wide = Emulator(GRAPH, WEIGHTS)
    wide.run(np.full((1, 1, 2, 4), 4.0))
    assert wide.ranges["relu"] == 4.0


@pytest.mark.parametrize("widths", [{"conv": 22}, {"relu": 20}, {"relu": 16}, {"relu": 64}, {"nobody": 22}])
def test_widths_that_are_none_are_refused(widths: Any, keys: Any) -> None:
    with pytest.raises(ParameterError, match="expected widths of 19, 22, 28, 32 bits"):
        NetworkClient(GRAPH, keys, widths=widths)


def test_parties_with_other_widths_refuse_each_other(start: Callable[..., Ends]) -> None:
    model = load_model("tiny-test")
    terms = hybrid_terms(model)
    ends = start(terms, model.weights)
    with pytest.raises(ProtocolError, match="disagree on comparison bits"):
        ends.run(dataclasses.replace(terms, widths={**terms.widths, "relu": 28}), lambda _: None)
