"""Agree on the terms of a session before a party sends anything private."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from parties.session.correlations import Correlations
from protocols.arithmetic.fixed_point import FRACTION_BITS
from protocols.channel import VERSION, Channel, printable
from protocols.document import Document, hexadecimal, integer, row
from protocols.encryption.ckks import CkksParameters
from protocols.errors import ParameterError, ProtocolError
from protocols.linear.packing import ConvPlan
from protocols.linear.planner import CostModel
from protocols.matching.reveal import Reveal
from protocols.network.graph import Graph
from protocols.network.private import plan_network
from protocols.network.widths import Widths, check_widths
from protocols.shares.comparison import COMPARISON_BITS

__all__ = [
    "MAX_NAME",
    "Agreeable",
    "Terms",
    "agree",
    "check_cost",
    "plans_digest",
    "plans_document",
    "plans_from_document",
    "receive_plans",
    "send_plans",
]

MAX_NAME = 10_000
"""Characters of a template's name, at most."""

_PLAN = row(*(integer(1, 1 << 20),) * 4)
_DIGEST = hexadecimal(32)
_DEAREST_PLAN = 20.0
"""A peer's plans may cost this many times as much as one's own. Machines and networks differ, but not by more."""


@dataclass(frozen=True)
class Terms:
    """The public terms of a session; all of them must be equal on both sides.

    Args:
        graph: the network, without weights.
        threshold: Euclidean distance below which two embeddings match.
        reveal: who learns the decision.
        parameters: the encryption's parameters.
        widths: bits of the network's comparisons, by layer.
        correlations: who makes the correlations.
    """

    graph: Graph
    threshold: float
    reveal: Reveal = Reveal.CLIENT
    parameters: CkksParameters = field(default_factory=CkksParameters)
    widths: Widths = field(default_factory=dict)
    correlations: Correlations = Correlations.OT

    def __post_init__(self) -> None:
        check_widths(self.widths, self.graph.comparing_layers())
        if not 0 < self.threshold < 2**14:
            raise ParameterError(f"expected a threshold above 0 and below 2^14, got {self.threshold}")

    def document(self) -> dict[str, Any]:
        """Return the terms in the form in which the parties compare them."""
        parameters = {f"encryption {key}": value for key, value in asdict(self.parameters).items()}
        parameters["encryption prime_bits"] = list(self.parameters.prime_bits)
        return {
            "protocol version": VERSION,
            "model": self.graph.digest(),
            "threshold": self.threshold,
            "reveal": self.reveal.value,
            "correlations": self.correlations.value,
            "fraction bits": FRACTION_BITS,
            "comparison bits": {name: self.widths.get(name, COMPARISON_BITS) for name in self.graph.comparing_layers()},
            **parameters,
        }


class Agreeable(Protocol):
    """Public terms of any kind of session."""

    def document(self) -> dict[str, Any]:
        """Return the terms in the form in which the parties compare them."""


def agree(channel: Channel, terms: Agreeable) -> None:
    """Exchange terms with the peer.

    Raises:
        ProtocolError: the terms differ. The message names the first term that does.
    """
    own = terms.document()
    channel.send_document("terms", own)
    theirs = channel.receive_document("terms").fields
    for key in {**own, **theirs}:
        if _as_json(own, key) != _as_json(theirs, key):
            mine, other = (printable(document.get(key), 16) for document in (own, theirs))
            raise ProtocolError(
                f"the peers disagree on {printable(key, 40)}: expected {mine}, the {channel.peer} has {other}"
            )


def _as_json(document: Mapping[str, Any], key: str) -> str:
    """Return a term as JSON, in which 1, 1.0 and true differ."""
    return json.dumps(document[key], sort_keys=True) if key in document else "nothing"


def plans_document(plans: Mapping[str, ConvPlan]) -> dict[str, Any]:
    """Return the plans of all layers as a JSON object."""
    return {name: [plan.block_in, plan.block_out, *plan.tile] for name, plan in plans.items()}


def send_plans(channel: Channel, plans: Mapping[str, ConvPlan]) -> None:
    """Send a peer the plans of all layers, and check that it has taken them unchanged.

    Raises:
        ProtocolError: the peer has taken other plans, with which the two would compute something else.
    """
    channel.send_document("plans", plans_document(plans))
    with channel.receive_document("plans taken") as answer:
        if answer.take("digest", _DIGEST) != plans_digest(plans):
            raise ProtocolError(f"expected the {channel.peer} to take the plans as they were sent, but it has others")


def receive_plans(channel: Channel, graph: Graph, degree: int) -> dict[str, ConvPlan]:
    """Return the plans that the server chose, after confirming them to the server (see `send_plans`).

    Raises:
        ProtocolError: the plans do not fit the graph, or would cost far more than necessary.
    """
    plans = plans_from_document(channel.receive_document("plans"), graph, degree)
    channel.send_document("plans taken", {"digest": plans_digest(plans).hex()})
    check_cost(plans, graph, degree)  # takes a while
    return plans


def plans_from_document(document: Document, graph: Graph, degree: int) -> dict[str, ConvPlan]:
    """Return the plans that a document names.

    Raises:
        ProtocolError: the plans do not fit the graph.
    """
    shapes = graph.linear_layers()
    plans = {}
    for name, shape in shapes.items():
        block_in, block_out, height, width = document.take(name, _PLAN)
        try:
            plans[name] = ConvPlan(shape, block_in, block_out, (height, width), degree)
        except ParameterError as error:
            raise ProtocolError(f"plan of {name}: {error}") from error
    document.end()
    return plans


def check_cost(plans: Mapping[str, ConvPlan], graph: Graph, degree: int) -> None:
    """Check that a peer's plans do not cost far more than necessary.

    Raises:
        ProtocolError: the plans cost too much.
    """
    cost = CostModel()
    dearest = _DEAREST_PLAN * sum(map(cost.cost, plan_network(graph, degree).values()))
    if (total := sum(map(cost.cost, plans.values()))) > dearest:
        raise ProtocolError(f"expected plans that cost at most {dearest:.3g} by the cost model, got {total:.3g}")


def plans_digest(plans: Mapping[str, ConvPlan]) -> bytes:
    """Return a digest of plans, with which a peer confirms what it has taken (see `send_plans`)."""
    return hashlib.sha256(json.dumps(plans_document(plans), sort_keys=True).encode()).digest()
