"""The plan of a network as a table: the packing of each private layer, its predicted cost, and its measured cost."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from hybridface.models.model import Model
from parties.session.cost import OFFLINE
from protocols.linear.packing import ConvPlan
from protocols.linear.planner import CostModel, bytes_down, bytes_up
from protocols.network.private import plan_network

__all__ = ["LayerPlan", "plan_document", "plan_layers", "plan_table"]


@dataclass(frozen=True)
class LayerPlan:
    """One private layer's plan, for one image.

    Args:
        name: the layer's name.
        shape: shapes of the layer's input, output and kernel, in words.
        packing: Cw input and Mw output channels in a polynomial, and the tiles.
        ciphertexts_in, ciphertexts_out, products: counts.
        predicted_ms, predicted_mb: cost of the offline phase by the cost model; MB (10^6 bytes) in both directions.
        measured_ms, measured_mb: the same cost, measured in a session; None if not measured.
    """

    name: str
    shape: str
    packing: str
    ciphertexts_in: int
    ciphertexts_out: int
    products: int
    predicted_ms: float
    predicted_mb: float
    measured_ms: float | None = None
    measured_mb: float | None = None


def plan_layers(model: Model, cost: CostModel, result: dict[str, Any] | None = None) -> list[LayerPlan]:
    """Return the plans of all private layers.

    Args:
        result: a verification of one image (its JSON object), for the measured columns; None leaves them empty.
    """
    stages = {s["stage"]: s for s in (result or {"cost": {"stages": []}})["cost"]["stages"] if s["phase"] == OFFLINE}
    layers = []
    for name, plan in plan_network(model.graph, cost=cost).items():
        stage = stages.get(name)
        layers.append(
            LayerPlan(
                name,
                _shape(plan),
                f"{plan.block_in} x {plan.block_out}, {plan.tiles[0]} x {plan.tiles[1]}",
                plan.tile_count * plan.groups_in,
                plan.tile_count * plan.groups_out,
                plan.tile_count * len(plan.blocks()),
                cost.elapsed(plan),
                (bytes_up(plan) + bytes_down(plan)) / 1e6,
                1e3 * stage["elapsed_seconds"] if stage else None,
                (stage["bytes_up"] + stage["bytes_down"]) / 1e6 if stage else None,
            )
        )
    return layers


def plan_table(layers: list[LayerPlan], cost: CostModel) -> Table:
    """Return the plans as a table, with a total."""
    table = Table(title=f"Private layers, offline, one photo, network {cost.link.name}", box=None)
    for column in ("layer", "shape", "Cw x Mw, tiles", "in", "out", "products"):
        table.add_column(column, justify="left" if column in ("layer", "shape") else "right")
    for column in ("predicted ms", "measured ms", "predicted MB", "measured MB"):
        table.add_column(column, justify="right")
    for layer in layers:
        table.add_row(layer.name, layer.shape, layer.packing, *_cells(layer))
    table.add_section()
    table.add_row("[bold]total[/bold]", "", "", *_cells(_total(layers)))
    return table


def plan_document(layers: list[LayerPlan], model: Model, cost: CostModel) -> dict[str, Any]:
    """Return the plans as a JSON object."""
    constants = {key: value for key, value in asdict(cost).items() if key != "link"}
    return {
        "model": model.name,
        "link": cost.link.name,
        "constants_ms": constants,
        "layers": [asdict(layer) for layer in layers],
        "total": {key: value for key, value in asdict(_total(layers)).items() if not isinstance(value, str)},
    }


def _shape(plan: ConvPlan) -> str:
    s = plan.shape
    source, target = f"{s.channels}x{s.height}x{s.width}", f"{s.channels_out}x{s.height_out}x{s.width_out}"
    return f"{source} to {target}, {s.kernel[0]}x{s.kernel[1]}"


def _total(layers: list[LayerPlan]) -> LayerPlan:
    measured = layers and layers[0].measured_ms is not None
    return LayerPlan(
        "total",
        "",
        "",
        sum(layer.ciphertexts_in for layer in layers),
        sum(layer.ciphertexts_out for layer in layers),
        sum(layer.products for layer in layers),
        sum(layer.predicted_ms for layer in layers),
        sum(layer.predicted_mb for layer in layers),
        sum(layer.measured_ms or 0 for layer in layers) if measured else None,
        sum(layer.measured_mb or 0 for layer in layers) if measured else None,
    )


def _cells(layer: LayerPlan) -> list[str]:
    counts = [str(layer.ciphertexts_in), str(layer.ciphertexts_out), str(layer.products)]
    values = [(layer.predicted_ms, 1), (layer.measured_ms, 1), (layer.predicted_mb, 2), (layer.measured_mb, 2)]
    return counts + ["" if value is None else f"{value:.{digits}f}" for value, digits in values]
