"""Give the largest magnitudes that were measured at the comparisons of the known networks, and the widths they need.

`ranges.json` has what `hybridface eval ranges` measured, by layer. An operator with other photos can measure again;
the command then reports every layer whose width is too small for them.
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
    """Return the largest magnitude of each comparing layer of a network, as reals; empty if none was measured."""
    return dict(_document().get(name, {}).get("largest", {}))


def known_widths(name: str, graph: Graph) -> Widths:
    """Return the width of each comparing layer; COMPARISON_BITS for a layer that was not measured."""
    ranges = known_ranges(name)
    layers = graph.comparing_layers()
    return {layer: choose_width(ranges[layer]) if layer in ranges else COMPARISON_BITS for layer in layers}
