"""Draw the report's figures, for wide and narrow screens: time, bytes, memory, keys, and accuracy against latency."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hybridface.measure.modes.accuracy import accuracy_of
from hybridface.measure.modes.drawing import (
    INK,
    KIND_COLOURS,
    MODE_COLOURS,
    MUTED,
    SURFACE,
    TRAFFIC_COLOURS,
    bare,
    draw_svg,
)
from hybridface.measure.modes.panels import (
    NARROW,
    SHAPES,
    TRAFFIC,
    WIDE,
    Row,
    dots,
    label_rows,
    legend,
    logarithmic_bytes,
    name_of,
    panels,
    rounded,
)
from hybridface.measure.modes.quantities import bytes_text, seconds_text
from hybridface.measure.modes.samples import WorkKind
from hybridface.measure.modes.ways import ReportMode
from parties.session.cost import OFFLINE, ONLINE

__all__ = ["Chart", "accuracy_chart", "bytes_chart", "memory_chart", "setup_chart", "time_chart"]

_PHASES = {OFFLINE: "Offline: before the photo arrives", ONLINE: "Online: from the photo to the answer"}
_BAR, _HATCH, _ROOM = 0.62, "////", 1.3
_MARKERS = dict(zip(ReportMode, "osD^P", strict=True))


@dataclass(frozen=True)
class Chart:
    """A figure in two widths, as SVG."""

    wide: str
    narrow: str


def time_chart(rows: Sequence[Row], link: str) -> Chart:
    """Return a chart of seconds by kind of work, stacked, with offline and online beside each other."""

    def draw(wide: bool) -> Figure:
        figure, both = panels(len(rows), wide)
        for axes, (phase, title) in zip(both, _PHASES.items(), strict=True):
            axes.set_title(title)
            _stack(axes, rows, phase)
            axes.set_xlabel("seconds")
            label_rows(axes, rows, wide, axes is both[0])
        used = {stage["kind"] for row in rows for stage in row["stages"]}
        legend(figure, [_patch(kind) for kind in WorkKind if kind in used], wide)
        return figure

    facts = "; ".join(f"{name_of(row)}: {_phase_words(row)}" for row in rows)
    return _chart(f"time-{link}", f"Time of one verification, link {link}", facts, draw)


def bytes_chart(rows: Sequence[Row]) -> Chart:
    """Return a chart of bytes in each direction on a logarithmic axis, with offline and online beside each other."""

    def draw(wide: bool) -> Figure:
        figure, both = panels(len(rows), wide)
        most = max((_median(row, phase, key) for row in rows for phase in _PHASES for key in TRAFFIC), default=0)
        for axes, (phase, title) in zip(both, _PHASES.items(), strict=True):
            axes.set_title(title)
            for index, row in enumerate(rows):
                dots(axes, index, {key: _median(row, phase, key) for key in TRAFFIC})
            logarithmic_bytes(axes, most)
            label_rows(axes, rows, wide, axes is both[0])
        handles = [
            Line2D([], [], color=TRAFFIC_COLOURS[key], marker=SHAPES[key], linestyle="", label=text)
            for key, text in TRAFFIC.items()
        ]
        legend(figure, handles, wide)
        return figure

    facts = "; ".join(f"{name_of(row)}: {_bytes_words(row)}" for row in rows)
    return _chart("bytes", "Bytes of one verification", facts, draw)


def memory_chart(rows: Sequence[Row]) -> Chart:
    """Return a chart of the peak memory of every process."""
    roles = [role for role in ("client", "server", "dealer") if any(role in row["peak_bytes"] for row in rows)]
    colours = dict(zip(("client", "server", "dealer"), TRAFFIC_COLOURS.values(), strict=True))

    def draw(wide: bool) -> Figure:
        figure, (axes,) = panels(len(rows), wide, count=1, each=0.5)
        for index, row in enumerate(rows):
            present = [role for role in roles if role in row["peak_bytes"]]
            height = 0.72 / max(len(roles), 1)
            for place, role in enumerate(present):
                y = index + (place - (len(present) - 1) / 2) * height
                size = row["peak_bytes"][role] / 2**20
                axes.barh(y, size, height * 0.86, color=colours[role])
                axes.annotate(
                    f"{size:,.0f}", (size, y), (4, 0), textcoords="offset points", va="center", color=MUTED, size=8
                )
        axes.set_xlim(0, _ROOM * max((s / 2**20 for row in rows for s in row["peak_bytes"].values()), default=1))
        axes.set_xlabel("peak resident memory, MiB")
        label_rows(axes, rows, wide, True)
        legend(figure, [Patch(facecolor=colours[role], label=role) for role in roles], wide)
        return figure

    facts = "; ".join(f"{name_of(row)}: {_memory_words(row)}" for row in rows)
    return _chart("memory", "Peak memory of every process, MiB", facts, draw)


def setup_chart(rows: Sequence[Row]) -> Chart:
    """Return a chart of the bytes of the keys, which a client sends once, on a logarithmic axis."""

    def draw(wide: bool) -> Figure:
        figure, (axes,) = panels(len(rows), wide, count=1)
        for index, row in enumerate(rows):
            setup = row["setup"] or {}
            dots(axes, index, {key: setup.get(key, 0) for key in ("bytes_up", "bytes_down")}, with_values=True)
        sizes = [(row["setup"] or {}).get(key, 0) for row in rows for key in ("bytes_up", "bytes_down")]
        logarithmic_bytes(axes, max(sizes, default=0))
        label_rows(axes, rows, wide, True)
        handles = [
            Line2D([], [], color=TRAFFIC_COLOURS[key], marker=SHAPES[key], linestyle="", label=TRAFFIC[key])
            for key in ("bytes_up", "bytes_down")
        ]
        legend(figure, handles, wide)
        return figure

    facts = "; ".join(f"{name_of(row)}: {bytes_text((row['setup'] or {}).get('bytes_up', 0))} up" for row in rows)
    return _chart("setup", "Keys, sent once by each client", facts, draw)


def accuracy_chart(rows: Sequence[Row], links: Sequence[str], known: Sequence[Mapping[str, Any]]) -> Chart:
    """Return a chart of accuracy against online seconds, with a panel for each link.

    A line leads from each point to the seconds of online and offline together.
    """
    measured = [row for row in rows if row["figures"] and _median(row, ONLINE, "seconds") > 0]
    points = [(row, found) for row in measured if (found := accuracy_of(row["mode"], row["model"], known))]

    def draw(wide: bool) -> Figure:
        columns = min(2, len(links)) if wide else 1
        lines = -(-len(links) // columns)
        figure = Figure(figsize=(WIDE if wide else NARROW, 2.7 * lines + 0.6), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flatten().tolist()
        for axes in grid[len(links) :]:
            axes.set_visible(False)
        for axes, link in zip(grid, links, strict=False):
            axes.set_title(f"Link: {link}")
            _scatter(axes, [point for point in points if point[0]["link"] == link])
        for axes in grid[max(0, len(links) - columns) : len(links)]:
            axes.set_xlabel("seconds, logarithmic")
            axes.tick_params(labelbottom=True)
        for axes in grid[::columns]:
            axes.set_ylabel("accuracy on LFW")
        used = [mode for mode in ReportMode if any(row["mode"] == mode for row, _ in points)]
        handles = [
            Line2D(
                [], [], color=MODE_COLOURS[mode], marker=_MARKERS[mode], linestyle="", markersize=8, label=mode.value
            )
            for mode in used
        ]
        legend(figure, handles, wide)
        return figure

    facts = "; ".join(f"{name_of(row)} over {row['link']}: {_accuracy_words(row, found)}" for row, found in points)
    return _chart("accuracy", "Accuracy against the time from the photo to the answer", facts, draw)


def _chart(name: str, title: str, description: str, draw: Callable[[bool], Figure]) -> Chart:
    return Chart(
        draw_svg(f"{name}-wide", title, description, partial(draw, True)),
        draw_svg(f"{name}-narrow", title, description, partial(draw, False)),
    )


def _stack(axes: Axes, rows: Sequence[Row], phase: str) -> None:
    most = max((_median(row, phase, "seconds") for row in rows), default=0) or 1.0
    axes.set_xlim(0, most * _ROOM)
    for index, row in enumerate(rows):
        left = 0.0
        for stage in row["stages"]:
            if stage["phase"] == phase:
                hatch = _hatch(stage["kind"])
                style: dict[str, Any] = {"hatch": hatch, "edgecolor": MUTED, "linewidth": 0.7} if hatch else {}
                axes.barh(index, stage["seconds"], _BAR, left, color=KIND_COLOURS[WorkKind(stage["kind"])], **style)
                left += stage["seconds"]
        text = "failed" if row["figures"] is None else "none" if left == 0 else _seconds(row, phase)
        axes.annotate(
            text, (left, index), (4, 0), textcoords="offset points", va="center", color=INK if left else MUTED
        )


def _patch(kind: WorkKind) -> Patch:
    hatch = _hatch(kind)
    return Patch(facecolor=KIND_COLOURS[kind], hatch=hatch, edgecolor=MUTED if hatch else "none", label=kind.value)


def _hatch(kind: str) -> str | None:
    return _HATCH if kind == WorkKind.TRANSFER else None


def _scatter(axes: Axes, points: Sequence[tuple[Row, tuple[Mapping[str, Any], bool]]]) -> None:
    bare(axes, "both")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: rounded(seconds_text(seconds))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.margins(0.08, 0.3)
    for row, (found, own) in points:
        online = _median(row, ONLINE, "seconds")
        mode, y = ReportMode(row["mode"]), found["accuracy"]
        colour = MODE_COLOURS[mode]
        total = online + _median(row, OFFLINE, "seconds")
        axes.plot([online, total], [y, y], color=colour, linewidth=1.4, zorder=2)
        if found["standard_error"]:
            axes.errorbar(online, y, found["standard_error"], color=MUTED, linewidth=1, zorder=1)
        fill = colour if own else SURFACE
        axes.plot(
            online, y, _MARKERS[mode], color=fill, markeredgecolor=colour, markeredgewidth=1.6, markersize=9, zorder=3
        )
    levels = {name_of(row).partition(", ")[2]: found["accuracy"] for row, (found, _) in points}
    for model, y in levels.items():
        axes.annotate(model, (0, y), (2, -14), xycoords=("axes fraction", "data"), textcoords="offset points",
                      color=MUTED, size=8.5)  # fmt: skip


def _median(row: Row, phase: str, key: str) -> float:
    return float(row["figures"][phase][key]["median"]) if row["figures"] else 0.0


def _seconds(row: Row, phase: str) -> str:
    return ("≈ " if row["status"] == "computed" else "") + seconds_text(_median(row, phase, "seconds"))


def _phase_words(row: Row) -> str:
    if row["figures"] is None:
        return "failed"
    computed = ", computed" if row["status"] == "computed" else ""
    return f"{_seconds(row, OFFLINE)} offline, {_seconds(row, ONLINE)} online{computed}"


def _bytes_words(row: Row) -> str:
    words = [
        f"{phase} " + ", ".join(f"{bytes_text(_median(row, phase, key))} {text}" for key, text in TRAFFIC.items())
        for phase in _PHASES
    ]
    return "; ".join(words)


def _memory_words(row: Row) -> str:
    return ", ".join(f"{role} {size / 2**20:,.0f}" for role, size in row["peak_bytes"].items()) or "failed"


def _accuracy_words(row: Row, found: tuple[Mapping[str, Any], bool]) -> str:
    return f"{found[0]['accuracy']:.1%} in {_seconds(row, ONLINE)}" if row["figures"] else "failed"
