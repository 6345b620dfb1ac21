"""Rates that an operator sets hold from the next query on, and give back nothing that was used up."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from parties.gallery.errors import QueryLimitError, StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.limits import EVERYONE, QueryLimits
from parties.gallery.store.rates import ALL_CLIENTS, Question, Rate
from parties.gallery.store.store import GalleryStore

HOUR = 3600.0


class Clock:
    """Time as a test sets it."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    GalleryStore(tmp_path / "g", "m", 4, GalleryKind.PRIVATE).close()
    return tmp_path / "g"


@pytest.fixture
def limits(path: Path, clock: Clock) -> Iterator[QueryLimits]:
    with QueryLimits(path, clock=clock) as opened:
        yield opened


def allowed(ask: Callable[[], None], tries: int = 100) -> int:
    count = 0
    for _ in range(tries):
        with contextlib.suppress(QueryLimitError):
            ask()
            count += 1
    return count


def test_a_clients_own_rate_comes_first(limits: QueryLimits) -> None:
    limits.set_rate(ALL_CLIENTS, Question.VERIFY, Rate(3, 1))
    limits.set_rate("door", Question.VERIFY, Rate(7, 1))
    assert allowed(lambda: limits.take("desk", "Ann")) == 3
    assert allowed(lambda: limits.take("door", "Ann")) == 7
    assert allowed(lambda: limits.take("door", EVERYONE)) == 20, "another question has another rate"
    limits.set_rate("desk", Question.IDENTIFY, Rate(2, 1))
    assert allowed(lambda: limits.take("desk", EVERYONE)) == 2
    limits.set_rate(ALL_CLIENTS, Question.GUESS, Rate(1, 1))
    assert allowed(lambda: limits.take("desk", "nobody", enrolled=False)) == 1


def test_it_holds_in_sessions_that_are_open(path: Path, limits: QueryLimits, clock: Clock) -> None:
    limits.take("door", "Ann")
    with QueryLimits(path, clock=clock) as operator:
        operator.set_rate("door", Question.VERIFY, Rate(1, 1))
    assert allowed(lambda: limits.take("door", "Ann")) == 1


def test_what_is_used_up_fills_at_the_new_rate(limits: QueryLimits, clock: Clock) -> None:
    assert allowed(lambda: limits.take("door", "Ann")) == 20
    limits.set_rate("door", Question.VERIFY, Rate(20, 1))
    assert allowed(lambda: limits.take("door", "Ann")) == 0
    clock.now += 5 * HOUR + 1  # at the old rate the bucket would be full: it must not be forgotten
    assert allowed(lambda: limits.take("door", "Ann")) == 5
    limits.set_rate("door", Question.VERIFY, Rate(2, 10))
    clock.now += 5 * HOUR
    assert allowed(lambda: limits.take("door", "Ann")) == 2
    limits.set_rate("door", Question.VERIFY, None)
    clock.now += 1 * HOUR
    assert allowed(lambda: limits.take("door", "Ann")) == 4


def test_no_limits_are_none_whatever_is_set(path: Path) -> None:
    with QueryLimits(path, None, None, None) as opened:
        opened.set_rate(ALL_CLIENTS, Question.VERIFY, Rate(1, 1))
        assert allowed(lambda: opened.take("door", "Ann")) == 100


@pytest.mark.parametrize(("column", "value"), [("capacity", "much"), ("capacity", -1), ("question", "why")])
def test_damaged_rates_are_told(path: Path, limits: QueryLimits, column: str, value: object) -> None:
    limits.set_rate("door", Question.VERIFY, Rate(1, 1))
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute(f"UPDATE rate SET {column} = ?", (value,))  # noqa: S608
        file.commit()
    with pytest.raises(StoreError, match="expected rates of queries, got others: the store is damaged"):
        limits.rates()
