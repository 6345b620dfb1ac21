"""Results for people and for machines: the cost table, and JSON."""

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from hybridface.modes import Mode
from parties.session.cost import OFFLINE, ONLINE, CostReport, StageCost

if TYPE_CHECKING:
    from hybridface.models.model import Model
    from parties.session.client import MatchResult
    from parties.session.pure_he import PureHeResult

__all__ = ["cost_table", "decision_text", "pure_he_document", "result_document", "score_text"]

_SCORE_WARNING = (
    "In this mode the client sees a score, not one bit. 50 to 200 scores are enough to rebuild a template, and a "
    "published score says something about the secret key. Share the decision only."
)


def decision_text(match: bool | None) -> str:
    """Return the decision in words."""
    return {True: "same person", False: "different people", None: "not revealed to this party"}[match]


def result_document(result: "MatchResult", model: "Model", reveal: str) -> dict[str, Any]:
    """Return a verification as a JSON object; `match` is true if every image matched."""
    decided = [match for match in result.matches if match is not None]
    return {
        "match": all(decided) if decided else None,
        "matches": list(result.matches),
        "model": model.name,
        "mode": Mode.HYBRID.value,
        "reveal": reveal,
        "was_prepared": result.was_prepared,
        "cost": result.cost.document(),
    }


def pure_he_document(result: "PureHeResult", model: "Model") -> dict[str, Any]:
    """Return a verification in pure-HE mode as a JSON object. The client must keep its score secret."""
    return {
        "match": result.match,
        "matches": list(result.matches),
        "model": model.name,
        "mode": Mode.PURE_HE.value,
        "reveal": "client",
        "score": {
            "squared_distance": result.squared_distance,
            "threshold": model.threshold**2,
            "warning": _SCORE_WARNING,
        },
        "cost": result.cost.document(),
    }


def score_text(squared_distance: float, threshold: float) -> str:
    """Return the score that the client sees in pure-HE mode, with a warning about what it reveals."""
    return f"Squared distance {squared_distance:.4f}, threshold {threshold**2:.4f}. {_SCORE_WARNING}"


def cost_table(cost: CostReport, model: "Model", layers: bool = False) -> Table:
    """Return the cost as a table, with a row per kind of layer or per layer.

    The seconds of client and server are each party's own work, without waiting. Megabytes (10^6 bytes) up and down and
    rounds are those between client and server.
    """
    table = Table(
        title="What it cost",
        caption="MB = 10^6 bytes; a round: messages sent without waiting for an answer",
        box=None,
    )
    for column in ("stage", "client s", "server s", "elapsed s", "MB up", "MB down", "MB dealer", "rounds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for phase in (OFFLINE, ONLINE):
        stages = [stage for stage in cost.stages if stage.phase == phase]
        if not stages:
            continue
        table.add_row(f"[bold]{phase}[/bold]")
        for stage in stages if layers else _grouped(cost, stages, model):
            table.add_row(f"  {escape(stage.stage)}", *_cells(stage))
        table.add_row("  [bold]total[/bold]", *(f"[bold]{cell}[/bold]" for cell in _cells(cost.total(phase))))
        table.add_section()
    return table


def _grouped(cost: CostReport, stages: list[StageCost], model: "Model") -> list[StageCost]:
    """Sum the stages that are layers of one kind."""
    titles = {node.name: node.title for node in model.graph.nodes}
    groups: dict[str, list[StageCost]] = {}
    for stage in stages:
        groups.setdefault(titles.get(stage.stage, stage.stage), []).append(stage)
    result = []
    for name, members in groups.items():
        label = f"{name} ({len(members)})" if members[0].stage in titles else name
        result.append(cost.total(members[0].phase, members, label))
    return result


def _cells(stage: StageCost) -> list[str]:
    seconds = [stage.client_seconds, stage.server_seconds, stage.elapsed_seconds]
    sizes = [stage.bytes_up, stage.bytes_down, stage.dealer_bytes]
    return [*(f"{value:.2f}" for value in seconds), *(f"{size / 1e6:.2f}" for size in sizes), str(stage.rounds)]
