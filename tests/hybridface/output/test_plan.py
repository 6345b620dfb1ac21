"""The plan of a network as a table: counts by hand, totals, and measured columns where there are any."""

import io
from typing import Any

import pytest
from rich.console import Console

import hybridface as hf
from hybridface.models.model import Model
from hybridface.output.plan import plan_document, plan_layers, plan_table
from protocols.linear.planner import CostModel, bytes_down, bytes_up
from protocols.link import MOBILE
from protocols.network.private import plan_network

COST = CostModel(link=MOBILE)


@pytest.fixture(scope="module")
def model() -> Model:
    return hf.load_model("tiny-test", weights=False)


def result_of(model: Model, **changes: Any) -> dict[str, Any]:
    """A verification's JSON object in which layer i took i + 1 seconds and (i + 1) MB both ways."""
    stages = [
        {
            "phase": phase,
            "stage": name,
            "elapsed_seconds": i + 1.0,
            "bytes_up": 250_000 * (i + 1),
            "bytes_down": 750_000 * (i + 1),
        }
        for i, name in enumerate(plan_network(model.graph))
        for phase in ("offline", "online")
    ]
    return {"cost": {"stages": [{**stage, **changes} if stage["phase"] == "online" else stage for stage in stages]}}


def test_every_layers_counts(model: Model) -> None:
    plans = plan_network(model.graph, cost=COST)
    layers = plan_layers(model, COST)
    assert [layer.name for layer in layers] == list(plans)
    for layer, plan in zip(layers, plans.values(), strict=True):
        assert layer.ciphertexts_in == plan.tile_count * plan.groups_in
        assert layer.ciphertexts_out == plan.tile_count * plan.groups_out
        assert layer.products == plan.tile_count * len(plan.blocks())
        assert layer.predicted_ms == COST.elapsed(plan)
        assert layer.predicted_mb == pytest.approx((bytes_up(plan) + bytes_down(plan)) / 1e6)
        assert layer.measured_ms is layer.measured_mb is None
    by_name = {layer.name: layer for layer in layers}
    assert by_name["conv"].shape == "3x16x16 to 8x8x8, 3x3"
    assert by_name["fc"].shape == "16x1x1 to 8x1x1, 1x1"
    assert by_name["fc"].packing == "16 x 8, 1 x 1"


def test_measured_columns_are_the_offline_stages(model: Model) -> None:
    layers = plan_layers(model, COST, result_of(model, elapsed_seconds=99.0, bytes_up=0))
    assert [layer.measured_ms for layer in layers] == [1e3 * (i + 1) for i in range(len(layers))]
    assert [layer.measured_mb for layer in layers] == [i + 1.0 for i in range(len(layers))]


@pytest.mark.parametrize("measured", [True, False])
def test_the_document_and_its_total(model: Model, measured: bool) -> None:
    layers = plan_layers(model, COST, result_of(model) if measured else None)
    document = plan_document(layers, model, COST)
    assert (document["model"], document["link"]) == ("tiny-test", "mobile")
    assert document["constants_ms"]["client_upload"] == COST.client_upload
    assert "link" not in document["constants_ms"]
    for key in ("ciphertexts_in", "ciphertexts_out", "products", "predicted_ms", "predicted_mb"):
        assert document["total"][key] == pytest.approx(sum(layer[key] for layer in document["layers"]))
    count = len(layers)
    assert document["total"]["measured_mb"] == (count * (count + 1) / 2 if measured else None)


def test_the_table_shows_every_layer_and_the_total(model: Model) -> None:
    out = io.StringIO()
    layers = plan_layers(model, COST, result_of(model))
    Console(file=out, width=150).print(plan_table(layers, COST))
    lines = out.getvalue().splitlines()
    assert "network mobile" in lines[0]
    (total,) = [line.split() for line in lines if line.split()[:1] == ["total"]]
    count = len(layers)
    assert total[-1] == f"{count * (count + 1) / 2:.2f}"
    assert total[1] == str(sum(layer.ciphertexts_in for layer in layers))
    assert {line.split()[0] for line in lines if line.split()} >= {layer.name for layer in layers}
