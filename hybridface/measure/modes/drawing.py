"""Draw figures as inline SVG: matplotlib draws them, and the page's style sheet gives the colours.

- Text stays text, so that it can be read aloud, searched and copied.
- matplotlib draws every colour as a stand-in. Then the stand-in is replaced by a variable of the style sheet, so that
  one figure serves light, dark and print.
- Identifiers get a prefix, because many figures share one page.
- Metadata and everything that names an outside address is removed.
"""

import io
from collections.abc import Callable
from typing import Any, Literal
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybridface.measure.modes.samples import WorkKind
from hybridface.measure.modes.ways import ReportMode

__all__ = [
    "COLOURS",
    "GRID",
    "INK",
    "KIND_COLOURS",
    "MODE_COLOURS",
    "MUTED",
    "SURFACE",
    "TRAFFIC_COLOURS",
    "bare",
    "draw_svg",
]

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
COLOURS = ("blue", "orange", "green", "red", "purple", "sky", "grey", "pale", "ink", "muted", "grid", "surface")
"""Variables of the style sheet. The first six are Okabe and Ito's colours, which colour-blind people can tell apart."""

_STAND_IN = {name: f"#a1b2{index:02x}" for index, name in enumerate(COLOURS)}
INK, MUTED, GRID, SURFACE = (_STAND_IN[name] for name in ("ink", "muted", "grid", "surface"))

KIND_COLOURS = {
    WorkKind.CORRELATIONS: _STAND_IN["purple"],
    WorkKind.UPLOAD: _STAND_IN["sky"],
    WorkKind.CLEAR: _STAND_IN["grey"],
    WorkKind.LINEAR: _STAND_IN["blue"],
    WorkKind.ACTIVATION: _STAND_IN["orange"],
    WorkKind.POOL: _STAND_IN["red"],
    WorkKind.MATCHING: _STAND_IN["green"],
    WorkKind.OTHER: _STAND_IN["pale"],
    WorkKind.TRANSFER: _STAND_IN["surface"],
}
TRAFFIC_COLOURS = {
    "bytes_up": _STAND_IN["blue"],
    "bytes_down": _STAND_IN["orange"],
    "dealer_bytes": _STAND_IN["purple"],
}
MODE_COLOURS = {
    ReportMode.PLAIN: _STAND_IN["grey"],
    ReportMode.HYBRID: _STAND_IN["blue"],
    ReportMode.PURE_HE: _STAND_IN["orange"],
    ReportMode.PURE_MPC: _STAND_IN["purple"],
    ReportMode.FEATURES_ONLY: _STAND_IN["green"],
}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hybridface",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.color": MUTED,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def draw_svg(identifier: str, title: str, description: str, draw: Callable[[], Figure]) -> str:
    """Return a figure as an SVG element for a page.

    Args:
        identifier: letters, digits and hyphens; unique in the page.
        title, description: texts for people who cannot see the figure.
        draw: makes the figure; it is called with the report's style set.
    """
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        draw().savefig(buffer, format="svg", transparent=True, metadata=metadata)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - our own
    _prefix(root, identifier)
    _describe(root, identifier, title, description)
    ElementTree.register_namespace("", _SVG)
    text = ElementTree.tostring(root, encoding="unicode")
    for name, stand_in in _STAND_IN.items():
        text = text.replace(stand_in, f"var(--{name})")
    return text


def bare(axes: Axes, grid: Literal["x", "both"] = "x") -> None:
    """Remove the axes' frame and ticks, and show faint grid lines."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis=grid)


def _prefix(root: ElementTree.Element, identifier: str) -> None:
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{identifier}-{value}")
            elif key == f"{{{_XLINK}}}href":
                del element.attrib[key]
                element.set("href", f"#{identifier}-{value.removeprefix('#')}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{identifier}-"))


def _describe(root: ElementTree.Element, identifier: str, title: str, description: str) -> None:
    for child in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(child)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    names = []
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{identifier}-{tag}"})
        element.text = text
        root.insert(position, element)
        names.append(f"{identifier}-{tag}")
    root.set("role", "img")
    root.set("aria-labelledby", " ".join(names))
