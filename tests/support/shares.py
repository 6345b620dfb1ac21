"""Both parties on shares, in this process, with a dealer."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from parties import local
from parties.session.correlations import Correlations
from protocols import MpcParty, share

__all__ = ["dealer_bytes", "on_shares", "opened", "pool_is_empty", "run_locally"]

run_locally = functools.partial(local.run_locally, correlations=Correlations.DEALER)
"""With a dealer, which starts at once: tests of what uses correlations do not care who makes them."""


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


def pool_is_empty(party: MpcParty) -> bool:
    """Whether the party has used up every correlation that it prepared."""
    return not any(party.correlations._pool.values())  # type: ignore[attr-defined]


def dealer_bytes(party: MpcParty) -> int:
    """What the party has exchanged with the dealer so far."""
    statistics = party.correlations._channel.statistics  # type: ignore[attr-defined]
    return statistics.bytes_sent + statistics.bytes_received
