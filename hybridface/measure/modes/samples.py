"""Define what is measured in every way: seconds by kind of work, bytes, rounds, memory and keys."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from parties.session.cost import OFFLINE, ONLINE
from protocols.link import Link
from protocols.network.graph import Graph, Work

__all__ = [
    "Sample",
    "Session",
    "Setup",
    "Stage",
    "Traffic",
    "WorkKind",
    "kinds_of_layers",
    "over_network",
    "sample_in_turns",
    "sample_of_cost",
    "summed",
]


class WorkKind(StrEnum):
    """A kind of work in a verification."""

    CORRELATIONS = "random correlations"
    UPLOAD = "encrypt and upload"
    CLEAR = "network in the clear"
    LINEAR = "linear layers"
    ACTIVATION = "ReLU and squares"
    POOL = "max-pool"
    MATCHING = "matching"
    OTHER = "other, and waiting"
    TRANSFER = "network, computed"


_KINDS_OF_WORK = {
    Work.LINEAR: WorkKind.LINEAR,
    Work.ACTIVATION: WorkKind.ACTIVATION,
    Work.POOL: WorkKind.POOL,
    Work.LOCAL: WorkKind.OTHER,
}


@dataclass(frozen=True)
class Stage:
    """The seconds of one kind of work in one phase: "offline" (before the photo is known) or "online"."""

    phase: str
    kind: WorkKind
    seconds: float


@dataclass(frozen=True)
class Traffic:
    """The traffic of one phase.

    Args:
        bytes_up, bytes_down: bytes from the client, and to the client.
        dealer_bytes: bytes from and to the dealer.
        rounds: rounds between client and server.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    dealer_bytes: int = 0
    rounds: int = 0


@dataclass(frozen=True)
class Sample:
    """One verification against an enrolled template.

    Args:
        match: the decision.
        stages: the stages; in each phase, their seconds add up to the seconds of the phase.
        online, offline: the traffic of each phase.
    """

    match: bool
    stages: tuple[Stage, ...]
    online: Traffic = Traffic()
    offline: Traffic = Traffic()

    def seconds(self, phase: str) -> float:
        """Return the elapsed seconds of a phase."""
        return sum(stage.seconds for stage in self.stages if stage.phase == phase)


@dataclass(frozen=True)
class Setup:
    """The work that a client and the server do once, mostly for keys. Seconds are on the client's clock."""

    seconds: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True)
class Session:
    """The verifications of one start of the processes.

    Args:
        samples: one or more verifications.
        memory: the peak bytes by role.
        setup: the cost of the keys; None if there are no keys.
    """

    samples: tuple[Sample, ...]
    memory: Mapping[str, int]
    setup: Setup | None = None


def kinds_of_layers(graph: Graph) -> dict[str, WorkKind]:
    """Return the kind of work of every layer."""
    return {node.name: _KINDS_OF_WORK[node.work] for node in graph.nodes}


def sample_of_cost(match: bool, cost: Mapping[str, Any], kinds: Mapping[str, WorkKind]) -> Sample:
    """Return a sample from a cost report (`CostReport.document`), with the client's elapsed seconds.

    Args:
        kinds: the kind of work by stage; stages not in it are `WorkKind.OTHER`.
    """
    stages = (
        Stage(stage["phase"], kinds.get(stage["stage"], WorkKind.OTHER), float(stage["elapsed_seconds"]))
        for stage in cost["stages"]
    )
    return Sample(match, summed(stages), _traffic(cost[ONLINE]), _traffic(cost[OFFLINE]))


def sample_in_turns(match: bool, cost: Mapping[str, Any], kinds: Mapping[str, WorkKind]) -> Sample:
    """Return a sample of parties that work in turns: both parties' own seconds by stage, and the rest as waiting.

    If the parties worked at the same time in parts, their seconds are scaled down to the elapsed seconds.
    """
    elapsed = float(cost[ONLINE]["elapsed_seconds"])
    own = [
        Stage(ONLINE, kinds.get(stage["stage"], WorkKind.OTHER), stage["client_seconds"] + stage["server_seconds"])
        for stage in cost["stages"]
        if stage["phase"] == ONLINE
    ]
    busy = sum(stage.seconds for stage in own)
    scale = min(1.0, elapsed / busy) if busy > 0 else 0.0
    stages = [Stage(ONLINE, stage.kind, stage.seconds * scale) for stage in own]
    waiting = Stage(ONLINE, WorkKind.OTHER, max(elapsed - busy, 0.0))
    return Sample(match, summed([*stages, waiting]), _traffic(cost[ONLINE]), _traffic(cost[OFFLINE]))


def summed(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return one stage for each phase and kind, in the order of `WorkKind`. Leave out kinds that take no time."""
    seconds: dict[tuple[str, WorkKind], float] = {}
    for stage in stages:
        key = stage.phase, stage.kind
        seconds[key] = seconds.get(key, 0.0) + stage.seconds
    order = list(WorkKind)
    keys = sorted(seconds, key=lambda key: (key[0], order.index(key[1])))
    return tuple(Stage(*key, seconds[key]) for key in keys if seconds[key] > 0)


def _traffic(total: Mapping[str, Any]) -> Traffic:
    return Traffic(*(int(total[key]) for key in ("bytes_up", "bytes_down", "dealer_bytes", "rounds")))


def over_network(session: Session, link: Link) -> Session:
    """Return a session as it would be over a link, computed from one that was measured without a link.

    The function adds the least time that any link costs: one delay for each round, and the time in which the bytes of
    the busier direction leave. It adds nothing for TCP, so the added time is a lower bound. Work and transfer are added
    up, because CrypTen's steps wait for their messages and do nothing meanwhile. The added stages have the kind
    `WorkKind.TRANSFER`.
    """
    return replace(session, samples=tuple(_sample_over(sample, link) for sample in session.samples))


def _sample_over(sample: Sample, link: Link) -> Sample:
    added = [
        Stage(phase, WorkKind.TRANSFER, _seconds_over(traffic, link))
        for phase, traffic in ((ONLINE, sample.online), (OFFLINE, sample.offline))
    ]
    return replace(sample, stages=summed([*sample.stages, *added]))


def _seconds_over(traffic: Traffic, link: Link) -> float:
    return link.transfer_seconds(max(traffic.bytes_up, traffic.bytes_down), traffic.rounds)
