"""Summarise the benchmark of verification: medians over the runs of one session."""

from statistics import median
from typing import Any

from rich.table import Table

from hybridface.modes import Mode
from hybridface.processes.start import Outcome
from parties.session.cost import OFFLINE

__all__ = ["bench_table", "summarise"]

_ROWS = {
    "online seconds": ("online", "elapsed_seconds", 1.0),
    "online client seconds": ("online", "client_seconds", 1.0),
    "online server seconds": ("online", "server_seconds", 1.0),
    "online MB up": ("online", "bytes_up", 1e-6),
    "online MB down": ("online", "bytes_down", 1e-6),
    "online rounds": ("online", "rounds", 1.0),
    "offline seconds": ("offline", "elapsed_seconds", 1.0),
    "offline MB up": ("offline", "bytes_up", 1e-6),
    "offline MB down": ("offline", "bytes_down", 1e-6),
    "offline MB from and to the dealer": ("offline", "dealer_bytes", 1e-6),
}


def summarise(outcome: Outcome, link: str = "none", batch: int = 1) -> dict[str, Any]:
    """Return the median, minimum and maximum of every figure, for a batch, and each process's memory in MiB.

    The memory is the peak, and the resident memory after the first and after the last verification.
    """
    costs = [result["cost"] for result in outcome.results]
    mode = outcome.results[-1]["mode"]
    rows = {}
    for name, (phase, key, factor) in _ROWS.items():
        if phase == OFFLINE and mode == Mode.PURE_HE:
            continue  # pure HE has no offline phase; its only other work is the keys, once
        values = [float(cost[phase][key]) * factor for cost in costs]
        rows[name] = {"median": median(values), "min": min(values), "max": max(values)}
    memory = {role: size / 2**20 for role, size in sorted(outcome.memory.items())}
    resident = {
        role: {"first": sizes[-len(costs)] / 2**20, "last": sizes[-1] / 2**20}
        for role, sizes in sorted(outcome.resident.items())
    }
    return {
        "runs": len(costs),
        "mode": mode,
        "model": outcome.results[-1]["model"],
        "link": link,
        "batch": batch,
        "prepared": sum(result.get("was_prepared", False) for result in outcome.results),
        "figures": rows,
        "setup": outcome.setup,
        "peak_mib": memory,
        "resident_mib": resident,
    }


def bench_table(summary: dict[str, Any]) -> Table:
    """Return the summary as a table."""
    over = "" if summary["link"] == "none" else f", {summary['link']}"
    photos = "one photo" if summary["batch"] == 1 else f"{summary['batch']} photos"
    source = f", {summary['correlations']}" if summary["mode"] != Mode.PURE_HE and "correlations" in summary else ""
    title = f"{summary['mode']}{source}, {summary['model']}, {photos} against a template, {summary['runs']} runs{over}"
    table = Table(title=title, box=None)
    table.add_column("figure")
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    for name, row in summary["figures"].items():
        table.add_row(name, *(f"{row[key]:.2f}" for key in ("median", "min", "max")))
    for role, size in summary["peak_mib"].items():
        table.add_row(f"peak memory of the {role}, MiB", f"{size:.0f}", "", "")
    for role, sizes in summary["resident_mib"].items():
        table.add_row(
            f"resident after run 1 and the last, {role}, MiB", f"{sizes['first']:.0f}", f"{sizes['last']:.0f}"
        )
    if setup := summary["setup"]:
        table.add_row("keys, once: seconds", f"{setup['elapsed_seconds']:.2f}", "", "")
        table.add_row("keys, once: MB up", f"{setup['bytes_up'] / 1e6:.2f}", "", "")
    if summary["mode"] != Mode.PURE_HE:
        table.add_row("runs that were prepared ahead", str(summary["prepared"]))
    return table
