"""The largest magnitudes that comparisons of the known networks were seen to meet, and the widths that follow.

`ranges.json` is what `hybridface eval ranges` measured, by layer; an operator who has other photos measures again, and
is told of a layer whose width does not reach.
"""

import functools
import json
from importlib import resources
from typing import Any

from protocols.network.graph import Graph
from protocols.network.widths import Widths, choose_width
from protocols.shares.comparison import COMPARISON_BITS

__all__ = ["known_ranges", "known_widths"]


@functools.lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    text = resources.files("hybridface.models").joinpath("ranges.json").read_text()
    return dict(json.loads(text))


def known_ranges(name: str) -> dict[str, float]:
    """Return the largest magnitude of each comparing layer of a network, as reals; empty if it was not measured."""
    return dict(_document().get(name, {}).get("largest", {}))


def known_widths(name: str, graph: Graph) -> Widths:
    """Return the width of each comparing layer, COMPARISON_BITS where nothing was measured."""
    ranges = known_ranges(name)
    layers = graph.comparing_layers()
    return {layer: choose_width(ranges[layer]) if layer in ranges else COMPARISON_BITS for layer in layers}
