"""What several test files need: statistics, a recorder of what goes over the wire, and a walk of an object's graph."""

import functools
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import stats

from parties.local import run_locally
from protocols import MpcParty, share
from protocols.errors import PeerLostError, ProtocolError

CHANCE = 1e-7
"""The chance that a statistical test fails although the code is right."""


def assert_uniform(values: Any, bound: int, bins: int | None = None) -> None:
    """Chi-squared test that `values` are uniform on [0, bound), in equal `bins` (by default one per value)."""
    bins = bins or bound
    edges = [-(-bound * i // bins) for i in range(bins + 1)]
    counts = np.histogram(np.asarray(values).ravel().astype(np.float64), bins=np.array(edges, dtype=np.float64))[0]
    assert counts.sum() == np.size(values), f"values outside [0, {bound})"
    expected = np.diff(edges) / bound * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > CHANCE


def assert_uniform_bytes(words: Any) -> None:
    """Chi-squared test of every byte position of 64-bit words, all positions together."""
    assert_uniform(np.ascontiguousarray(words).view(np.uint8), 256)


def assert_probability(hits: int, trials: int, probability: float) -> None:
    """Exact binomial test that `hits` of `trials` came with that probability."""
    assert stats.binomtest(hits, trials, probability).pvalue > CHANCE


class Recorder:
    """A transport that keeps every frame that goes out."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sent: list[bytes] = []

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self.sent.append(payload)
        self._transport.send(payload, timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        self.sent.append(payload)
        return self._transport.exchange(payload, max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def record(channel: Any) -> list[bytes]:
    """Return a list that every frame sent over the channel from now on is added to."""
    channel.transport = Recorder(channel.transport)
    return channel.transport.sent


def on_shares(function: Callable[..., Any], *secrets: Any) -> Any:
    """Run `function(party, *shares)` as both parties on fresh shares of uint64 arrays; return both results."""
    shares = [share(np.asarray(secret)) for secret in secrets]
    sides = [functools.partial(_call, function, [pair[rank] for pair in shares]) for rank in (0, 1)]
    return run_locally(*sides)


def _call(function: Callable[..., Any], shares: list[Any], party: MpcParty) -> Any:
    return function(party, *shares)


def opened(function: Callable[..., Any], *secrets: Any) -> Any:
    """Run `function` as both parties and return the value that their two results share, as signed integers."""
    first, second = on_shares(function, *secrets)
    return (first + second).view(np.int64)


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return a result and "", or None and the message of the two errors that a peer's bytes may cause."""
    try:
        return function(*arguments), ""
    except (ProtocolError, PeerLostError) as error:
        return None, str(error)


def pool_is_empty(party: MpcParty) -> bool:
    """Whether the party has used up every correlation that it prepared."""
    return not any(party.correlations._pool.values())  # type: ignore[attr-defined]


def dealer_bytes(party: MpcParty) -> int:
    """What the party has exchanged with the dealer so far."""
    statistics = party.correlations._channel.statistics  # type: ignore[attr-defined]
    return statistics.bytes_sent + statistics.bytes_received


def reachable(*roots: Any) -> Iterator[Any]:
    """Yield every object that can be reached from `roots` through attributes, containers, closures and arguments."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, type | types.ModuleType):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, types.FunctionType):  # not its globals: they hold the whole program
            todo += [value.__closure__, value.__defaults__, value.__kwdefaults__]
        else:
            todo += gc.get_referents(value)
        todo.append(getattr(value, "__dict__", None))
