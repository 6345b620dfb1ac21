"""The cost model by hand on a small plan, its bytes against a real channel's, and the planner's choice."""

from typing import Any

import numpy as np
import pytest

from parties.transport.queues import local_channels
from protocols.encryption.ckks import ClientKeys, PublicKey
from protocols.errors import ParameterError
from protocols.linear.convolution import PrivateConvolutionClient, PrivateConvolutionServer
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.linear.planner import CostModel, bytes_down, bytes_up, plan_convolution
from protocols.link import MOBILE, NONE, WAN, Link

SHAPE = ConvShape(3, 4, 4, 5, (3, 3), padding=(1, 1))
PLAN = ConvPlan(SHAPE, 2, 2, (2, 4))
"""2 tiles, 2 ciphertexts in, 3 out, hence 6 products, of 2 x 8 coefficients each."""

COST = CostModel(client_upload=1, server_upload=10, server_download=100, client_download=1000, product=0.5, weight=0.25)


def test_times_by_hand() -> None:
    assert (PLAN.tile_count, PLAN.groups_in, PLAN.groups_out, len(PLAN.blocks())) == (2, 2, 3, 6)
    assert COST.client(PLAN) == 2 * (2 * 1 + 3 * 1000)
    assert COST.server(PLAN) == 2 * (2 * 10 + 3 * 100 + 6 * 0.5) + 6 * 0.25
    assert COST.cost(PLAN) == COST.client(PLAN) + COST.server(PLAN)
    assert COST.elapsed(PLAN) == max(COST.client(PLAN), COST.server(PLAN))


def test_bytes_by_hand() -> None:
    assert bytes_up(PLAN) == 2 * 2 * (2 * 4096 * 6) + 32
    assert bytes_down(PLAN) == 2 * 3 * 10 * (4096 + 2 * 8)


def test_the_network_adds_the_time_of_the_bytes() -> None:
    link = Link("slow", 8e6, 1.0)  # a megabyte in a second
    slow = CostModel(1, 10, 100, 1000, 0.5, 0.25, link)
    up, down = bytes_up(PLAN) / 1e3, bytes_down(PLAN) / 1e3
    assert slow.cost(PLAN) == pytest.approx(COST.cost(PLAN) + up + down)
    assert slow.elapsed(PLAN) == pytest.approx(max(COST.client(PLAN), COST.server(PLAN), up, down))
    assert CostModel(1e-9, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9, link).elapsed(PLAN) == pytest.approx(max(up, down))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        ConvPlan(ConvShape(8, 1, 1, 6), 8, 6, (1, 1)),
        ConvPlan(ConvShape(4, 9, 7, 4, (3, 3), stride=(2, 2), groups=4), 4, 1, (4, 1)),
    ],
    ids=["tiles", "one", "grouped"],
)
def test_the_bytes_are_those_of_the_channel(
    keys: ClientKeys, public_key: PublicKey, plan: ConvPlan, batch: int
) -> None:
    shape = plan.shape
    weight = np.zeros((shape.channels_out, shape.channels // shape.groups, *shape.kernel))
    to_server, to_client = local_channels("client", "server")
    client = PrivateConvolutionClient("layer", plan, keys)
    client.begin(to_server, batch)
    PrivateConvolutionServer("layer", plan, public_key, weight).prepare(to_client, batch)
    client.finish(to_server, batch)
    statistics = to_server.statistics
    header, dimension = 16, 8
    headers_up = 2 * header + (1 + 5) * dimension
    headers_down = 2 * header + (3 + 3) * dimension
    seed = 32  # once, for all images
    assert statistics.bytes_sent - headers_up == batch * (bytes_up(plan) - seed) + seed
    assert statistics.bytes_received - headers_down == batch * bytes_down(plan)


@pytest.mark.parametrize("name", list(CostModel.__dataclass_fields__)[:-1])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_times_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=r"^expected times above 0 ms"):
        CostModel(**{name: value})  # type: ignore[arg-type]


def all_plans(shape: ConvShape, degree: int) -> list[ConvPlan]:
    """Every plan there is of a small shape."""
    plans: list[Any] = []
    for height in range(1, shape.height_out + 1):
        for width in range(1, shape.width_out + 1):
            for block_in in range(1, shape.phase_channels + 1):
                for block_out in range(1, shape.channels_out + 1):
                    try:
                        plans.append(ConvPlan(shape, block_in, block_out, (height, width), degree))
                    except ParameterError:
                        continue
    return plans


@pytest.mark.parametrize(
    "cost",
    [CostModel(), CostModel(link=MOBILE), CostModel(link=WAN), CostModel(product=5.0)],
    ids=["default", "mobile", "wan", "dear products"],
)
@pytest.mark.parametrize("shape", [SHAPE, ConvShape(6, 5, 5, 7, (3, 3), (2, 2)), ConvShape(6, 4, 4, 6, groups=3)])
def test_no_plan_is_cheaper_than_the_chosen(shape: ConvShape, cost: CostModel) -> None:
    chosen = plan_convolution(shape, 64, cost)
    assert cost.cost(chosen) <= min(map(cost.cost, all_plans(shape, 64))) * (1 + 1e-12)


def test_the_network_and_the_machine_change_the_choice() -> None:
    shape = ConvShape(64, 16, 16, 64, (3, 3), padding=(1, 1))
    plans = {plan_convolution(shape, 4096, CostModel(product=p, weight=p)) for p in (1e-4, 0.01, 10.0)}
    assert len(plans) > 1
    up = [
        bytes_up(p) + bytes_down(p)
        for p in (plan_convolution(shape), plan_convolution(shape, 4096, CostModel(link=MOBILE)))
    ]
    assert up[1] <= up[0]
    assert plan_convolution(shape, 4096, CostModel(link=NONE)) == plan_convolution(shape)


def test_a_kernel_larger_than_a_polynomial() -> None:
    with pytest.raises(ParameterError, match="a kernel that fits 64 coefficients"):
        plan_convolution(ConvShape(1, 9, 9, 1, (9, 9)), 64)
