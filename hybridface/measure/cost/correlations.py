"""Benchmark correlations: random oblivious transfers, and all correlations that a comparison uses up.

The correlations of a comparison come from oblivious transfers, or from a dealer. MPI ranks on this machine do the work:
client, server, and the dealer if there is one (see `correlations_rank`). The first run does not count; the figures are
medians of the others.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from rich.console import Group
from rich.table import Table

from hybridface.measure.cost.correlations_rank import WIDTHS
from hybridface.measure.cost.ranks import run_ranks
from parties.session.correlations import Correlations
from parties.transport.roles import Role

__all__ = ["bench_correlations", "correlations_table"]

_TIMEOUT_SECONDS = 1800.0


def bench_correlations(
    kinds: Sequence[Correlations],
    transfers: int,
    comparisons: int,
    runs: int,
    on_kind: Callable[[Correlations], None] | None = None,
) -> dict[str, Any]:
    """Measure every kind of correlations, and return a JSON object.

    Args:
        kinds: how the correlations are made.
        transfers: the number of random transfers in a run.
        comparisons: the number of comparisons, with their selections, in a run.
        runs: the number of runs that count.
        on_kind: called when a kind begins.

    Raises:
        RunError: a rank failed.
    """
    document: dict[str, Any] = {"transfers": transfers, "comparisons": comparisons, "runs": runs, "kinds": {}}
    for kind in kinds:
        if on_kind:
            on_kind(kind)
        roles = [Role.CLIENT, Role.SERVER, *([Role.DEALER] if kind.needs_dealer else [])]
        arguments = [kind.value, str(transfers), str(comparisons), str(runs)]
        said: dict[str, Any] = {}
        for line in run_ranks(
            "hybridface.measure.cost.correlations_rank", [[role.value, *arguments] for role in roles], _TIMEOUT_SECONDS
        ):
            said |= line
        document["kinds"][kind.value] = _figures(said, transfers, comparisons)
    return document


def _figures(said: dict[str, Any], transfers: int, comparisons: int) -> dict[str, Any]:
    client, server = said["client"], said["server"]
    figures: dict[str, Any] = {
        "start": {"seconds": client["start"]["seconds"], "MB": _sent(client["start"]) / 1e6},
        "peak MiB": {role: one["peak_bytes"] / 2**20 for role, one in said.items()},
        "comparisons": {},
    }
    if "transfers" in client:
        figures["transfers"] = {
            "millions a second": transfers / median(one["seconds"] for one in client["transfers"]) / 1e6,
            "bytes each": _sent(client["transfers"][-1]) / transfers,
            "processor microseconds each: client, server": [
                median(one["processor"] for one in party["transfers"]) / transfers * 1e6 for party in (client, server)
            ],
        }
    for bits in map(str, WIDTHS):
        ours, theirs = client["comparisons"][bits], server["comparisons"][bits]
        figures["comparisons"][bits] = {
            "microseconds each": median(one["seconds"] for one in ours) / comparisons * 1e6,
            "bytes each": (_sent(ours[-1]) + theirs[-1]["dealer"]) / comparisons,
        }
    return figures


def _sent(one: dict[str, float]) -> float:
    return one["sent"] + one["received"]


def correlations_table(document: dict[str, Any]) -> Group:
    """Return the result as tables."""
    kinds = document["kinds"]
    transfers = Table(title=f"{document['transfers']:,} random transfers", box=None)
    for name in ("kind", "start s", "start MB", "millions a second", "bytes each", "peak MiB"):
        transfers.add_column(name, justify="left" if name == "kind" else "right")
    comparisons = Table(title=f"Correlations of {document['comparisons']:,} comparisons with selection", box=None)
    comparisons.add_column("kind")
    for bits in WIDTHS:
        comparisons.add_column(f"{bits} bits: µs", justify="right")
        comparisons.add_column("bytes", justify="right")
    for kind, figures in kinds.items():
        start, made = figures["start"], figures.get("transfers", {})
        cells = [f"{made['millions a second']:.1f}", f"{made['bytes each']:.2f}"] if made else ["-", "-"]
        peaks = ", ".join(f"{value:.0f}" for value in figures["peak MiB"].values())
        transfers.add_row(kind, f"{start['seconds']:.2f}", f"{start['MB']:.1f}", *cells, peaks)
        row = []
        for one in figures["comparisons"].values():
            row += [f"{one['microseconds each']:.2f}", f"{one['bytes each']:.0f}"]
        comparisons.add_row(kind, *row)
    return Group(transfers, "", comparisons)
