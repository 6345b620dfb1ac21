"""Draw parts of the report's figures: panels, the names of the rows, and dots for bytes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from hybridface.measure.modes.drawing import INK, MUTED, SURFACE, TRAFFIC_COLOURS, bare
from hybridface.measure.modes.quantities import bytes_text

__all__ = [
    "NARROW",
    "SHAPES",
    "TRAFFIC",
    "WIDE",
    "Row",
    "beside",
    "dots",
    "label_rows",
    "legend",
    "logarithmic_bytes",
    "name_of",
    "panels",
    "rounded",
]

Row = Mapping[str, Any]
"""A measurement in the document."""

WIDE, NARROW = 10.4, 4.7
"""Widths of a figure in inches of 72 units. The page shows them about 1.4 and 1.1 times as large."""

TRAFFIC = {"bytes_up": "client to server", "bytes_down": "server to client", "dealer_bytes": "from and to the dealer"}
SHAPES = dict(zip(TRAFFIC, "osD", strict=True))
_LONGEST_NAME = 40
_DODGE = {"bytes_up": -0.13, "bytes_down": 0.13, "dealer_bytes": 0.0}


def panels(rows: int, wide: bool, count: int = 2, each: float = 0.4) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels for `rows` rows: beside each other, or below each other if it is narrow."""
    height = rows * (each if wide else each + 0.2) + 0.9
    size = (WIDE, height + 0.4) if wide else (NARROW, count * height + 0.7)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, wspace=0.04))
    grid = figure.subplots(*((1, count) if wide else (count, 1)), squeeze=False)
    return figure, grid.flatten().tolist()


def label_rows(axes: Axes, rows: Sequence[Row], wide: bool, is_first: bool) -> None:
    """Write the rows' names, from the top: beside the first panel, or above each bar if the figure is narrow."""
    bare(axes)
    axes.set_ylim(len(rows) - 0.5, -0.5 if wide else -0.75)
    axes.set_yticks(range(len(rows)), [name_of(row) for row in rows] if wide and is_first else [""] * len(rows))
    if not wide:
        for index, row in enumerate(rows):
            place = axes.get_yaxis_transform()
            axes.text(0, index - 0.47, name_of(row), transform=place, size=8.5, color=INK, va="center")


def dots(axes: Axes, index: int, sizes: Mapping[str, float], with_values: bool = False) -> None:
    known = {key: size for key, size in sizes.items() if size > 0}
    if not known:
        place = ("axes fraction", "data")
        axes.annotate("none", (0, index), (4, 0), place, "offset points", va="center", color=MUTED)
        return
    axes.plot([min(known.values()), max(known.values())], [index, index], color=MUTED, linewidth=1, zorder=1)
    for key, x in known.items():
        style: dict[str, Any] = {"color": TRAFFIC_COLOURS[key], "markeredgecolor": SURFACE}
        axes.plot(x, index + _DODGE[key], SHAPES[key], markersize=8.5, zorder=3, **style)
    last = max(known, key=lambda key: known[key])
    beside(axes, known[last], index, bytes_text(known[last] if with_values else sum(known.values())), 9, color=INK)


def beside(axes: Axes, x: float, y: float, text: str, points: float = 4, **style: Any) -> None:
    """Write a text to the right of a point."""
    axes.annotate(text, (x, y), (points, 0), textcoords="offset points", va="center", **style)


def logarithmic_bytes(axes: Axes, most: float) -> None:
    highest = max(most, 1e4) * 30
    axes.set_xscale("log")
    axes.set_xlim(0.4, highest)
    axes.set_xticks([10.0**power for power in range(0, 13, 3) if 10.0**power < highest])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: rounded(bytes_text(size))))
    axes.minorticks_off()
    axes.set_xlabel("bytes, logarithmic")


def rounded(text: str) -> str:
    """Remove zeros after the decimal point."""
    return re.sub(r"\.0+(?= )", "", text)


def legend(figure: Figure, handles: Sequence[Any], wide: bool) -> None:
    if handles:
        columns = min(len(handles), 6 if wide else 2)
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=1.2, columnspacing=1.4)


def name_of(row: Row) -> str:
    """Return a way's name, shortened if it is too long for the figure."""
    name = f"{row['mode']}, {row['model']}"
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
