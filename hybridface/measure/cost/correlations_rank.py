"""Run one rank of the correlations benchmark: the client, the server, or the dealer.

Client and server begin and end every measured block at the same moment. `mpiexec` runs the ranks (see `correlations`).
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hybridface.measure.cost.meter import Meter
from parties.session.correlations import Correlations
from parties.session.source import open_source
from parties.transport.roles import Role
from protocols.channel import CLIENT, SERVER, Channel
from protocols.correlations import CorrelationSource, Dealer, Request
from protocols.correlations.two_party.source import TransferSource
from protocols.shares.comparison import relu_requests

__all__ = ["WIDTHS", "main", "measure"]

WIDTHS = (19, 22, 28, 32)
"""The widths, in bits, of the comparisons that are measured."""

_PIECE = 1 << 18
_TIMEOUT_SECONDS = 600.0


def measure(
    correlations: Correlations,
    rank: int,
    peer: Channel,
    dealer: Channel | None,
    transfers: int,
    comparisons: int,
    runs: int,
) -> dict[str, Any]:
    """Make oblivious transfers, in which the client chooses, and the correlations of comparisons. Return their cost.

    Args:
        transfers, comparisons: the number of each in a run.
        runs: the number of runs, after one that does not count.
    """
    meter = Meter(peer, dealer, together=True)
    with meter as start:
        source = _opened(correlations, rank, peer, dealer)
    said: dict[str, Any] = {"start": start}
    if isinstance(source, TransferSource):
        said["transfers"] = _repeated(meter, runs, partial(_draw, source, rank, transfers))
    said["comparisons"] = {
        bits: _repeated(meter, runs, partial(_make, source, relu_requests(comparisons, bits))) for bits in WIDTHS
    }
    source.end()
    return said


def _repeated(meter: Meter, runs: int, work: Callable[[], object]) -> list[dict[str, float]]:
    """Return the cost of each of `runs` runs, after one that does not count."""
    spent = []
    for _ in range(runs + 1):
        with meter as run:
            work()
        spent.append(run)
    return spent[1:]


def _opened(correlations: Correlations, rank: int, peer: Channel, dealer: Channel | None) -> CorrelationSource:
    source = open_source(rank, correlations, peer, dealer)
    if isinstance(source, TransferSource):
        source.transfers()
    return source


def _make(source: CorrelationSource, requests: Sequence[Request]) -> None:
    source.prepare(list(requests))
    for request in requests:
        source.take(request)


def _draw(source: TransferSource, rank: int, count: int) -> None:
    end = source.transfers()
    for start in range(0, count, _PIECE):
        (end.chooser if rank == CLIENT else end.offerer).draw(min(_PIECE, count - start), words=1)


def main(name: str, correlations: str, transfers: str, comparisons: str, runs: str) -> int:
    """Run one rank of the benchmark, and return its exit status."""
    from hybridface.measure.cost.rank_main import rank_main

    role, kind = Role(name), Correlations(correlations)
    required = (Role.CLIENT, Role.SERVER, *((Role.DEALER,) if kind.needs_dealer else ()))

    def work(world: Any) -> dict[str, Any]:
        channels = [world.channel(other) for other in required if other is not role]
        if role is Role.DEALER:
            Dealer(*channels).serve()
            return {}
        dealer = channels[1] if kind.needs_dealer else None
        rank = CLIENT if role is Role.CLIENT else SERVER
        return measure(kind, rank, channels[0], dealer, int(transfers), int(comparisons), int(runs))

    return rank_main(role, work, required, _TIMEOUT_SECONDS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
