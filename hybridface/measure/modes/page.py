"""Make the report as one HTML page, from the JSON object. The page loads nothing from outside the file."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hybridface.measure.modes.accuracy import accuracy_of
from hybridface.measure.modes.charts import (
    accuracy_chart,
    bytes_chart,
    memory_chart,
    setup_chart,
    time_chart,
)
from hybridface.measure.modes.quantities import bytes_text, seconds_text
from hybridface.measure.modes.summary import headline, summary_link, summary_rows
from parties.session.cost import OFFLINE, ONLINE

__all__ = ["report_page"]

_PACKAGE = "hybridface.measure.modes"


def report_page(document: Mapping[str, Any]) -> str:
    """Return the page for a result of `modes_document`."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds_text, "bytes": bytes_text}
    style = Markup((files(_PACKAGE) / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    links = [link["name"] for link in document["links"]]
    rows = {name: [row for row in document["measurements"] if row["link"] == name] for name in links}
    once = rows[links[0]]
    return environment.get_template("report.html.j2").render(
        document=document,
        style=style,
        rows=rows,
        once=once,
        offline=OFFLINE,
        online=ONLINE,
        headline=headline(document),
        summary=summary_rows(document),
        summary_link=summary_link(document),
        time_charts={name: _inline(time_chart(rows[name], name)) for name in links},
        bytes_chart=_inline(bytes_chart(once)),
        memory_chart=_inline(memory_chart(_largest(rows))),
        setup_chart=_inline(setup_chart(once)),
        accuracy_chart=_accuracy(document, links),
        setups=_setups(rows),
    )


def _inline(chart: Any) -> dict[str, Markup]:
    """Return a chart as markup. `drawing` has made the SVG, with all text escaped."""
    return {"wide": Markup(chart.wide), "narrow": Markup(chart.narrow)}  # noqa: S704


def _accuracy(document: Mapping[str, Any], links: Sequence[str]) -> dict[str, Markup] | None:
    known, rows = document["accuracy"], document["measurements"]
    if not any(row["figures"] and accuracy_of(row["mode"], row["model"], known) for row in rows):
        return None
    return _inline(accuracy_chart(rows, links, known))


def _largest(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the first link's rows, with the largest peak of every process over all links."""
    result = []
    for alike in zip(*rows.values(), strict=True):
        roles = sorted({role for row in alike for role in row["peak_bytes"]})
        peaks = {role: max(row["peak_bytes"].get(role, 0) for row in alike) for role in roles}
        result.append({**alike[0], "peak_bytes": peaks})
    return result


def _setups(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the setup by link of every way that has keys."""
    return [
        {"mode": alike[0]["mode"], "model": alike[0]["model"], "by_link": [row["setup"] for row in alike]}
        for alike in zip(*rows.values(), strict=True)
        if any(row["setup"] for row in alike)
    ]
