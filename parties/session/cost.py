"""Measure what a computation costs: seconds, bytes and rounds of each stage, from the channels and a clock."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from protocols.channel import Channel, ChannelStatistics, printable
from protocols.document import Document, integer, list_of, number, row, text, word

__all__ = ["CostReport", "Recorder", "StageCost"]

OFFLINE, ONLINE = "offline", "online"


@dataclass(frozen=True)
class StageCost:
    """The cost of one stage.

    Args:
        phase: "offline" (before the probe is known) or "online".
        stage: the name of a layer or a step.
        client_seconds, server_seconds: each party's own work, without waiting for a peer.
        elapsed_seconds: seconds on the client's clock, with waiting.
        bytes_up, bytes_down: bytes that the client sends to the server, and receives from it.
        dealer_bytes: bytes of corrections from the dealer to the server, and of requests to the dealer.
        rounds: rounds between client and server.
    """

    phase: str
    stage: str
    client_seconds: float = 0.0
    server_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    dealer_bytes: int = 0
    rounds: int = 0


@dataclass(frozen=True)
class CostReport:
    """All stages of one operation, in order."""

    stages: tuple[StageCost, ...]

    def total(self, phase: str, stages: Sequence[StageCost] | None = None, name: str = "total") -> StageCost:
        """Return the sum of a phase's stages (of `stages`, if given) as one stage."""
        chosen = [s for s in (self.stages if stages is None else stages) if s.phase == phase]
        sums = {
            key: sum(getattr(s, key) for s in chosen) for key in StageCost.__dataclass_fields__ if key not in _NAMES
        }
        return StageCost(phase, name, **sums)

    @property
    def online(self) -> StageCost:
        """The sum of the online stages."""
        return self.total(ONLINE)

    @property
    def offline(self) -> StageCost:
        """The sum of the offline stages."""
        return self.total(OFFLINE)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "offline": asdict(self.offline),
            "online": asdict(self.online),
            "stages": [asdict(stage) for stage in self.stages],
        }


_NAMES = ("phase", "stage")
_MAX_STAGES, _MAX_NAME = 10_000, 10_000
_STAGE = row(word(OFFLINE, ONLINE), text(_MAX_NAME), number(0, 1e9), integer(0, 2**62))


@dataclass
class Recorder:
    """Measures one party's stages, by `with recorder.recording(...)` or by `recorder.stage(...)` at the start of each.

    Args:
        peer: the channel to the other party.
        dealer: the channel to the dealer, if there is one.
        beside: counts of this party's other ranks: traffic with the other party's ranks, and with their dealers.
    """

    peer: Channel
    dealer: Channel | None = None
    beside: tuple[ChannelStatistics, ChannelStatistics] | None = None
    stages: list[StageCost] = field(default_factory=list)
    _open: tuple[str, str, dict[str, float]] | None = None

    def stage(self, phase: str, name: str) -> None:
        """End the current stage, and start the next."""
        self.finish()
        self._open = (phase, name, self._counters())

    def finish(self) -> None:
        """End the current stage."""
        if self._open is None:
            return
        phase, name, before = self._open
        now = self._counters()
        spent = {key: now[key] - before[key] for key in now}
        elapsed, waited = spent["elapsed"], spent["waited"]
        self.stages.append(
            StageCost(
                phase,
                name,
                client_seconds=elapsed - waited,
                elapsed_seconds=elapsed,
                bytes_up=int(spent["sent"]),
                bytes_down=int(spent["received"]),
                dealer_bytes=int(spent["dealer"]),
                rounds=int(spent["rounds"]),
            )
        )
        self._open = None

    @contextmanager
    def recording(self, phase: str, name: str) -> Iterator[None]:
        """Measure a block as one stage."""
        self.stage(phase, name)
        yield
        self.finish()

    def take(self) -> list[StageCost]:
        """Return the stages so far, and forget them."""
        self.finish()
        stages, self.stages = self.stages, []
        return stages

    def _counters(self) -> dict[str, float]:
        peer = self.peer.statistics
        dealer = self.dealer.statistics if self.dealer else ChannelStatistics()
        more, from_dealers = self.beside or (ChannelStatistics(), ChannelStatistics())
        return {
            "elapsed": time.perf_counter(),
            "waited": peer.wait_seconds + dealer.wait_seconds,
            "sent": peer.bytes_sent + more.bytes_sent,
            "received": peer.bytes_received + more.bytes_received,
            "dealer": sum(one.bytes_sent + one.bytes_received for one in (dealer, from_dealers)),
            "rounds": peer.rounds,
        }


def server_report(stages: Iterable[StageCost]) -> dict[str, Any]:
    """Return what the server reports to the client about its stages: names, own seconds, bytes of the dealer."""
    return {"stages": [[s.phase, s.stage, s.client_seconds, s.dealer_bytes] for s in stages]}


def merge(client: Sequence[StageCost], report: Document) -> CostReport:
    """Join the client's stages with the server's report.

    Raises:
        ProtocolError: the report is malformed.
    """
    merged: dict[tuple[str, str], StageCost] = {}
    for stage in client:
        old = merged.get((stage.phase, stage.stage))
        pair = [stage] if old is None else [old, stage]
        merged[stage.phase, stage.stage] = CostReport(()).total(stage.phase, pair, stage.stage)
    with report:
        stages = report.take("stages", list_of(_STAGE, _MAX_STAGES))
    for phase, name, seconds, dealer in stages:
        key = phase, printable(name)
        values = asdict(merged.get(key, StageCost(*key)))
        values["server_seconds"] += seconds
        values["dealer_bytes"] += dealer
        merged[key] = StageCost(**values)
    return CostReport(tuple(sorted(merged.values(), key=lambda stage: stage.phase)))
