"""What a way would take over a network that its processes cannot simulate: computed, not measured, and marked so.

To the measured time without a network comes the least that any link adds: one delay for each round, and the time in
which the bytes of the busier direction leave. Nothing is taken for TCP, so it is a lower bound of what a link adds.
Work and transfer are added up: CrypTen's steps wait for their messages, and do nothing meanwhile.
"""

from dataclasses import replace

from hybridface.measure.modes.samples import Kind, Sample, Session, Stage, Traffic, summed
from parties.session.cost import OFFLINE, ONLINE
from protocols.link import NetworkProfile

__all__ = ["over_network"]


def over_network(session: Session, network: NetworkProfile) -> Session:
    """Return a session that was measured without a network, as it would be over one."""
    return replace(session, samples=tuple(_sample(sample, network) for sample in session.samples))


def _sample(sample: Sample, network: NetworkProfile) -> Sample:
    added = [
        Stage(phase, Kind.TRANSFER, _seconds(traffic, network))
        for phase, traffic in ((ONLINE, sample.online), (OFFLINE, sample.offline))
    ]
    return replace(sample, stages=summed([*sample.stages, *added]))


def _seconds(traffic: Traffic, network: NetworkProfile) -> float:
    return network.transfer_seconds(max(traffic.bytes_up, traffic.bytes_down), traffic.rounds)
