"""Plans that the server chooses: accepted where they fit and are not too dear, and good for the same result."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridface as hf
from parties.local import PartyThread
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.server import ServerSession
from parties.session.terms import Terms, check_cost, plans_document, plans_from_document, receive_plans, send_plans
from parties.transport.queues import local_channels
from protocols.arithmetic.fixed_point import decode
from protocols.correlations import Dealer
from protocols.document import Document
from protocols.errors import ProtocolError
from protocols.linear.planner import CostModel
from protocols.link import LINKS, MOBILE, WAN
from protocols.network.emulator import Emulator
from protocols.network.private import plan_network

GUARD_SECONDS = 30.0
TINY = hf.load_model("tiny-test")
GRAPH = TINY.graph
SHAPES = GRAPH.linear_layers()
GOOD = plans_document(plan_network(GRAPH))
PROFILES = list(LINKS.values()) if isinstance(LINKS, dict) else list(LINKS)

times = st.floats(0.2, 5.0)


@given(st.tuples(times, times, times, times, times, times), st.sampled_from(PROFILES))
@settings(max_examples=60, deadline=None)
def test_plans_of_any_machine_and_network_are_accepted(factors: tuple[float, ...], link: Any) -> None:
    d = CostModel()
    base = (d.client_upload, d.server_upload, d.server_download, d.client_download, d.product, d.weight)
    cost = CostModel(*(value * factor for value, factor in zip(base, factors, strict=True)), link=link)
    plans = plan_network(GRAPH, cost=cost)
    came = plans_from_document(Document({**plans_document(plans)}, "plans"), GRAPH, 4096)
    check_cost(came, GRAPH, 4096)
    assert came == plans
    assert list(came) == list(SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("link", PROFILES, ids=lambda link: link.name)
def test_plans_of_the_real_network_are_accepted(link: Any) -> None:
    graph = hf.load_model("dlib-resnet29", weights=False).graph
    plans = plan_network(graph, cost=CostModel(link=link))
    came = plans_from_document(Document({**plans_document(plans)}, "plans"), graph, 4096)
    check_cost(came, graph, 4096)
    assert came == plans


def changed(name: str, value: Any) -> dict[str, Any]:
    return {**GOOD, name: value}


BAD: dict[str, dict[str, Any]] = {
    "none": {},
    "a layer too few": {name: plan for name, plan in GOOD.items() if name != "conv"},
    "a layer too many": changed("another", [1, 1, 1, 1]),
    "another name": {name.replace("conv", "corv"): plan for name, plan in GOOD.items()},
    "three numbers": changed("conv", [1, 1, 1]),
    "five numbers": changed("conv", [1, 1, 1, 1, 1]),
    "a float": changed("conv", [1.0, 1, 1, 1]),
    "a string": changed("conv", "1111"),
    "nothing": changed("conv", None),
    "an object": changed("conv", {"block_in": 1}),
    "zero": changed("conv", [0, 1, 1, 1]),
    "negative": changed("conv", [1, 1, -1, 1]),
    "huge": changed("conv", [10**40, 1, 1, 1]),
    "more than a polynomial": changed("conv", [64, 64, 8, 8]),
    "a tile beyond the image": changed("conv", [1, 1, 100, 1]),
    "control characters": changed("conv", "\x1b[2J\n" * 1000),
}


@pytest.mark.parametrize("name", BAD)
def test_plans_that_do_not_fit_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        plans_from_document(Document({**BAD[name]}, "plans"), GRAPH, 4096)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_plans_that_are_far_too_dear_are_refused() -> None:
    graph = hf.load_model("dlib-resnet29", weights=False).graph
    dear = {name: [1, 1, 1, 1] for name in graph.linear_layers()}
    with pytest.raises(ProtocolError, match="expected plans that cost at most"):
        check_cost(plans_from_document(Document({**dear}, "plans"), graph, 4096), graph, 4096)


def test_the_dearest_plans_that_are_taken() -> None:
    """One layer's plan is made dearer until it is refused: that is at 20 times the best total, not before."""
    best = sum(CostModel().cost(plan) for plan in plan_network(GRAPH).values())
    seen = set()
    for block_in, block_out, side in [(3, 8, 8), (12, 1, 4), (1, 1, 8), (1, 1, 4), (1, 1, 2), (1, 1, 1)]:
        document = {**GOOD, "conv": [block_in, block_out, side, side]}
        try:
            plans = plans_from_document(Document({**document}, "plans"), GRAPH, 4096)
            check_cost(plans, GRAPH, 4096)
        except ProtocolError as error:
            assert "cost at most" in str(error)  # noqa: PT017
            seen.add(False)
        else:
            assert sum(CostModel().cost(plan) for plan in plans.values()) <= 20 * best
            seen.add(True)
    assert True in seen


def test_a_peer_that_takes_other_plans_is_refused() -> None:
    """Also plans that fit: the two would compute something else, and nobody would see it."""
    plans = plan_network(GRAPH)
    others = plan_network(GRAPH, cost=CostModel(client_upload=2.0, server_upload=2.0, link=WAN))
    assert others != plans
    for taken in (plans, others):
        client, server = local_channels("client", "server", 5)
        server.send_document("plans", plans_document(taken))
        assert receive_plans(client, GRAPH, 4096) == taken
        if taken is plans:
            send_plans(server, plans)
        else:
            with pytest.raises(ProtocolError, match="to take the plans as they were sent, but it has others"):
                send_plans(server, plans)


@pytest.mark.parametrize("link", [MOBILE, WAN], ids=["mobile", "wan"])
def test_a_server_that_plans_for_another_network_gives_the_same_result(link: Any) -> None:
    cost = CostModel(client_upload=2.0, server_upload=2.0, link=link)
    assert plan_network(GRAPH, cost=cost) != plan_network(GRAPH), "the plans are the same ones"
    terms = Terms(GRAPH, TINY.threshold, correlations=Correlations.DEALER)
    chips = np.random.default_rng(4).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    images = np.stack([TINY.normalise(chip) for chip in chips])
    emulated = Emulator(GRAPH, TINY.weights or {}).run(images)
    expected = bool(np.linalg.norm(decode((emulated[0] - emulated[1]).view(np.uint64))) < TINY.threshold)
    to_server, to_client = local_channels("client", "server", GUARD_SECONDS)
    client_dealer, dealer_client = local_channels("client", "dealer", GUARD_SECONDS)
    server_dealer, dealer_server = local_channels("server", "dealer", GUARD_SECONDS)
    servers: list[ServerSession] = []

    def serve() -> None:
        servers.append(ServerSession(to_client, server_dealer, terms, TINY.weights or {}, cost=cost))
        servers[0].serve()

    threads = [
        PartyThread("server", serve, (to_client, server_dealer)),
        PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
    ]
    for thread in threads:
        thread.start()
    with ClientSession(to_server, client_dealer, terms) as session:
        plans = {name: layer.plan for name, layer in session.endpoint.network._layers.items()}
        assert plans == plan_network(GRAPH, cost=cost), "the client's own plans"
        template = session.enroll("a", images[:1])
        total = template.share + servers[0].template_share("a")
        assert session.verify(images[1:], template).match is expected
    for thread in threads:
        thread.join(GUARD_SECONDS)
        assert thread.error is None
    assert np.abs(total.view(np.int64)[0] - emulated[0]).max() <= 8, "in last bits"
