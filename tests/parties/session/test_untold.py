"""A party that fails at any message tells its peers that it did, and nothing private: no name, path, number or index.

Secrets are planted on both sides (identities, names of templates, paths, texts of errors), then a party fails where it
would receive a message, in one of the ways in which code fails; or the message is malformed. Every error report that
travels is read.
"""

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from parties.gallery.errors import QueryRefusedError, StoreError
from protocols.channel import Channel
from protocols.errors import UNTOLD, HiddenError, HybridFaceError, ParameterError, PeerLostError, ProtocolError
from support.scenarios import SCENARIOS, SECRET, watched

_PATH = f"/home/jane.doe/{SECRET}/gallery.db"
FAILURES: list[BaseException] = [
    OSError(f"{_PATH}: no space left"),
    FileNotFoundError(2, "No such file", _PATH),
    ParameterError(f"{_PATH}: expected 32 hexadecimal digits"),
    StoreError(f"{_PATH}: damaged"),
    HiddenError(f"expected the sealed name of index 3, {SECRET}"),
    QueryRefusedError(f"not {SECRET}"),
    HybridFaceError(SECRET),
    KeyError(SECRET),
    ValueError(f"a distance of 0.1234 to {SECRET}"),
    MemoryError(SECRET),
]

CHANGES: list[Callable[[Any, Any], tuple[Any, Any]]] = [
    lambda dtype, shape: (np.float64 if np.dtype(dtype) != np.float64 else np.uint8, shape),
    lambda dtype, shape: (dtype, (*shape, 1)),
    lambda dtype, shape: (dtype, tuple(n + 1 for n in shape) or (1,)),
]
"""What a party expects instead, so that what comes is malformed."""

Place = tuple[str, str]
"""From whom a message comes, and its label, but for numbers."""


def place_of(channel: Channel, label: str) -> Place:
    return channel.peer, re.sub(r"[0-9]+", "0", label.partition(" {")[0])[:60]


@cache
def places(scenario: str) -> list[Place]:
    """Return where a party of a scenario receives something, in order."""
    seen: dict[Place, None] = {}
    receive, exchange = Channel.receive, Channel.exchange

    def noted_receive(channel: Channel, label: str, *arguments: Any) -> Any:
        seen.setdefault(place_of(channel, label))
        return receive(channel, label, *arguments)

    def noted_exchange(channel: Channel, label: str, array: Any) -> Any:
        seen.setdefault(place_of(channel, label))
        return exchange(channel, label, array)

    with (
        mock.patch.object(Channel, "receive", noted_receive),
        mock.patch.object(Channel, "exchange", noted_exchange),
        tempfile.TemporaryDirectory() as folder,
        watched() as watch,
    ):
        SCENARIOS[scenario](Path(folder))
    assert (watch.errors, watch.reports) == ([], [])
    return list(seen)


@contextmanager
def failing(place: Place, failure: BaseException | int) -> Iterator[None]:
    """Fail meanwhile where a message comes the first time; with a number, because another one is expected."""
    receive, exchange, once = Channel.receive, Channel.exchange, threading.Lock()

    def is_here(channel: Channel, label: str) -> bool:
        here = place_of(channel, label) == place and once.acquire(blocking=False)
        if here and isinstance(failure, BaseException):
            raise failure
        return here

    def failing_receive(channel: Channel, label: str, dtype: Any, shape: Any, timeout: float | None = None) -> Any:
        if is_here(channel, label) and isinstance(failure, int):
            dtype, shape = CHANGES[failure](dtype, shape)
        return receive(channel, label, dtype, shape, timeout)

    def failing_exchange(channel: Channel, label: str, array: Any) -> Any:
        if is_here(channel, label):
            array = array[..., None]
        return exchange(channel, label, array)

    with (
        mock.patch.object(Channel, "receive", failing_receive),
        mock.patch.object(Channel, "exchange", failing_exchange),
    ):
        yield
    assert once.locked(), f"nobody has received {place}"


def is_told(text: str, errors: list[BaseException]) -> bool:
    """Whether a report has the text for peers, or that of an error that is for them."""
    return text == UNTOLD or any(
        type(error) in (ProtocolError, PeerLostError) and str(error).startswith(text[:390]) for error in errors
    )


def fail_everywhere(scenario: str, every: int) -> None:
    ways: list[BaseException | int] = [*FAILURES, *range(len(CHANGES))]
    for number, place in enumerate(places(scenario)[:: max(1, every)]):
        failure = ways[number % len(ways)]
        with tempfile.TemporaryDirectory(prefix=SECRET) as folder, failing(place, failure), watched() as seen:
            SCENARIOS[scenario](Path(folder))
        case = f"{place} {failure!r}: {seen}"
        assert not seen.hung, case
        assert seen.errors, case
        assert not [text for text in seen.reports if SECRET in text or "jane" in text or "0.1234" in text], case
        assert all(is_told(text, seen.errors) for text in seen.reports), case


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_reports_of_failures_tell_nothing_private(scenario: str) -> None:
    fail_everywhere(scenario, every=6)


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_reports_of_failures_everywhere_tell_nothing_private(scenario: str) -> None:
    fail_everywhere(scenario, every=1)
