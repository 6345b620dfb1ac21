"""Measure what a block of a benchmark costs a party, while the other party begins its block at the same moment."""

import time

import numpy as np

from parties.gallery.shards.remote import ShardTraffic
from protocols.channel import Channel

__all__ = ["Meter"]


class Meter:
    """Measures a block: `with meter as spent:` fills the dictionary `spent` when the block ends.

    The dictionary has "seconds", this party's "processor" seconds, the bytes "sent" to the peer and "received" from it,
    the bytes from the "dealer", and "rounds".

    Args:
        peer, dealer: channels to the peer and the dealer; None if there is no dealer.
        traffic: the traffic of this party's shards, which counts as the party's own.
        together: whether the block ends only when both parties have done their part.
    """

    def __init__(
        self, peer: Channel, dealer: Channel | None, traffic: ShardTraffic | None = None, together: bool = False
    ) -> None:
        self._peer, self._dealer, self._traffic, self._together = peer, dealer, traffic or ShardTraffic(), together

    def __enter__(self) -> dict[str, float]:
        self._wait("benchmark/start")
        self._before = self._counters()
        self._spent: dict[str, float] = {}
        return self._spent

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            return
        after = self._counters()
        if self._together:
            self._wait("benchmark/end")
            after["seconds"] = time.perf_counter()
        self._spent |= {key: value - self._before[key] for key, value in after.items()}

    def _wait(self, label: str) -> None:
        self._peer.exchange(label, np.zeros(1, dtype=np.uint64))

    def _counters(self) -> dict[str, float]:
        own, shards = self._peer.statistics, self._traffic
        dealt = self._dealer.statistics.bytes_received if self._dealer else 0
        return {
            "seconds": time.perf_counter(),
            "processor": time.process_time(),
            "sent": own.bytes_sent + shards.peer.bytes_sent,
            "received": own.bytes_received + shards.peer.bytes_received,
            "rounds": own.rounds,
            "dealer": dealt + shards.dealer.bytes_received,
        }
