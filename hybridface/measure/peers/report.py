"""Return the comparison as a table and as a JSON object, with the machine and the versions of the libraries."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from hybridface.measure.peers.measure import PeerResult, PeerTask

__all__ = ["comparison_document", "comparison_table", "machine"]

_HYBRID = "hybridface"
_PACKAGES = ("torch", "crypten", "tenseal", "mpi4py", "mpich", "numpy", "hybridface")
_FIGURES = {
    "online seconds": ("seconds", 1.0),
    "offline seconds": ("offline_seconds", 1.0),
    "online MB": ("bytes_online", 1e-6),
    "offline MB": ("bytes_offline", 1e-6),
    "rounds": ("rounds", 1.0),
    "max error": ("max_error", 1.0),
}
_CAPTION = (
    "median (min to max); MB = 10^6 bytes, both directions; max error: of the features, against float64; no column "
    "includes work that is done once per session (encoding or sharing the weights, compilation)"
)


def comparison_document(results: Sequence[PeerResult], task: PeerTask, runs: int) -> dict[str, Any]:
    """Return a JSON object with medians, minima, maxima, ratios and every single run, in seconds and megabytes."""
    figures = {result.name: _figures(result) for result in results}
    hybrid = figures.get(_HYBRID, {}).get("online seconds")
    peers = []
    for result in results:
        seconds = figures[result.name].get("online seconds")
        ratio = seconds["median"] / hybrid["median"] if seconds and hybrid else None
        peers.append(
            {
                "name": result.name,
                "security": result.security,
                "not measured": result.reason,
                "ratio to hybridface": ratio,
                "figures": figures[result.name],
                "runs": [asdict(run) for run in result.runs],
            }
        )
    return {
        "model": task.model.name,
        "photos": [photo.name for photo in task.photos],
        "match": task.match,
        "runs": runs,
        "machine": machine(),
        "peers": peers,
    }


def comparison_table(document: dict[str, Any]) -> Table:
    """Return the result of `comparison_document` as a table."""
    title = f"{document['model']}, one photo against a template, {document['runs']} interleaved runs"
    table = Table(title=title, caption=_CAPTION, box=None, padding=(0, 2, 0, 0))
    for column in ("peer", "online s", "ratio", "offline s", "MB online", "MB offline", "rounds", "max error"):
        table.add_column(column, justify="left" if column == "peer" else "right", min_width=5)
    table.add_column("what its security rests on", ratio=1)
    for peer in document["peers"]:
        if peer["not measured"]:
            table.add_row(peer["name"], *[""] * 7, f"not measured: {peer['not measured']}")
            continue
        figures, ratio = peer["figures"], peer["ratio to hybridface"]
        table.add_row(
            peer["name"],
            _spread(figures["online seconds"]),
            "-" if ratio is None else f"{ratio:.3g}",
            *(_cell(figures.get(name), ".2f") for name in ("offline seconds", "online MB", "offline MB")),
            _cell(figures.get("rounds"), ".0f"),
            _cell(figures["max error"], ".1e"),
            peer["security"],
        )
    return table


def machine() -> dict[str, Any]:
    """Return the processor, cores, memory (MiB), load averages (1, 5 and 15 minutes), system and versions."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory MiB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "load": list(os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: found for package in _PACKAGES if (found := _version(package))},
    }


def _figures(result: PeerResult) -> dict[str, dict[str, float]]:
    figures = {}
    for name, (attribute, factor) in _FIGURES.items():
        values = [getattr(run, attribute) for run in result.runs]
        known = [float(value) * factor for value in values if value is not None]
        if known:
            figures[name] = {"median": median(known), "min": min(known), "max": max(known)}
    return figures


def _spread(row: dict[str, float]) -> str:
    digits = 4 if row["median"] < 0.1 else 2 if row["median"] < 100 else 0
    middle, low, high = (f"{row[key]:.{digits}f}" for key in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _cell(row: dict[str, float] | None, form: str) -> str:
    return "-" if row is None else format(row["median"], form)


def _field(path: str, name: str) -> str | None:
    """Return the value of the first line `name : value` in a file; None if there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
