"""Limits on queries: they hold over restarts, processes and wrong clocks, and the log says nothing it should not."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.gallery.errors import QueryLimitError, StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store import database, limits
from parties.gallery.store.limits import EVERYONE, IDENTIFY, VERIFY, QueryLimits, Rate
from parties.gallery.store.store import GalleryStore
from protocols.errors import ParameterError

START = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here pulls the plug; a killed process loses nothing that it has handed to the system."""
    monkeypatch.setattr(database, "_SETTINGS", ("foreign_keys = ON", "secure_delete = ON", "synchronous = OFF"))


class Clock:
    """A clock that is set by hand."""

    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    GalleryStore(tmp_path / "g", "m", 4, GalleryKind.PRIVATE).close()
    return tmp_path / "g"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begin(path: Path, clock: Clock) -> Iterator[Callable[..., QueryLimits]]:
    opened: list[QueryLimits] = []

    def open_limits(**changes: Any) -> QueryLimits:
        opened.append(QueryLimits(path, **({"clock": clock} | changes)))
        return opened[-1]

    yield open_limits
    for one in opened:
        one.close()


def allowed(limit: QueryLimits, client: str, identity: str | None, tries: int, tokens: int = 1) -> int:
    """Try so often; return how many were allowed."""
    count = 0
    for _ in range(tries):
        with contextlib.suppress(QueryLimitError):
            limit.take(client, identity, tokens)
            count += 1
    return count


def test_limits_are_on_by_default(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    limit = begin()
    assert allowed(limit, "c", "alice", 30) == VERIFY.capacity == 20
    assert allowed(limit, "c", EVERYONE, 30) == IDENTIFY.capacity == 20
    clock.now += 3600
    assert allowed(limit, "c", "alice", 30) == VERIFY.per_hour == 4
    assert allowed(limit, "c", EVERYONE, 30) == IDENTIFY.per_hour == 4
    clock.now += 365 * 24 * 3600
    assert allowed(limit, "c", "alice", 30) == 20
    off = begin(verify=None, identify=None)
    assert allowed(off, "c", "alice", 30) == 30
    assert allowed(off, "c", EVERYONE, 30) == 30


def test_clients_and_identities_have_buckets_of_their_own(begin: Callable[..., QueryLimits]) -> None:
    limit = begin(verify=Rate(2, 1), identify=Rate(1, 1))
    for client in ("a", "b"):
        for identity, number in [("alice", 2), ("Alice", 2), ("*", 2), (EVERYONE, 1), ("x" * 10_000, 2)]:
            assert allowed(limit, client, identity, 5) == number


def test_a_refusal_says_when_to_come_back(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    limit = begin(verify=Rate(1, 6))
    limit.take("c", "alice")
    clock.now += 100
    with pytest.raises(QueryLimitError, match="the next is allowed in 500 s") as caught:
        limit.take("c", "alice")
    assert caught.value.retry_after_seconds == pytest.approx(500)
    clock.now += 499
    assert allowed(limit, "c", "alice", 1) == 0
    clock.now += 1
    assert allowed(limit, "c", "alice", 2) == 1


def test_many_names_cost_many_tokens(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    limit = begin(identify=Rate(20, 4))
    assert allowed(limit, "c", EVERYONE, 3, tokens=8) == 2
    with pytest.raises(QueryLimitError) as caught:
        limit.admit("c", "identify", EVERYONE, 8)
    assert caught.value.retry_after_seconds == pytest.approx(3600), "four of eight are there"
    assert allowed(limit, "c", EVERYONE, 5) == 4, "a refusal has taken nothing"
    clock.now += 3600
    assert allowed(limit, "c", EVERYONE, 1, tokens=5) == 0
    assert allowed(limit, "c", EVERYONE, 1, tokens=4) == 1
    assert [line.allowed for line in limit.queries()] == [False]
    for tokens in (64, 20):
        clock.now += 5 * 3600
        assert allowed(limit, "c", EVERYONE, 2, tokens=tokens) == 1, "never more than a full bucket"
        assert allowed(limit, "c", EVERYONE, 1) == 0
    for tokens in (0, -1):
        with pytest.raises(ParameterError, match="1 token or more"):
            limit.take("c", EVERYONE, tokens)
        with pytest.raises(ParameterError, match="1 token or more"):
            limit.admit("c", "identify", EVERYONE, tokens)


def test_limits_survive_a_restart(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    rate = Rate(3, 1)
    assert allowed(begin(verify=rate), "c", "alice", 2) == 2
    again = begin(verify=rate)
    assert allowed(again, "c", "alice", 5) == 1
    again.close()
    assert allowed(begin(verify=rate), "c", "alice", 5) == 0
    clock.now += 2 * 3600
    assert allowed(begin(verify=rate), "c", "alice", 5) == 2


def test_a_clock_set_back_gives_nothing(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    limit = begin(verify=Rate(4, 1))
    assert allowed(limit, "c", "alice", 4) == 4
    for hours in (-5, -1, 2, -3, 6, -7):  # forth and back again and again, never past where it began
        clock.now += hours * 3600
        assert allowed(limit, "c", "alice", 3) == 0, hours
    with pytest.raises(QueryLimitError) as caught:
        limit.take("c", "alice")
    assert caught.value.retry_after_seconds == pytest.approx(9 * 3600)
    clock.now = START + 3600
    assert allowed(limit, "c", "alice", 3) == 1
    limit.reset("c", "alice")
    assert allowed(limit, "c", "alice", 5) == 4


def test_a_clock_that_was_ahead_holds_all_up_until_the_operator_helps(
    begin: Callable[..., QueryLimits], clock: Clock
) -> None:
    limit = begin(verify=Rate(4, 1))
    assert allowed(limit, "c", "alice", 4) == 4
    clock.now += 1e6
    limit.take("c", "bob")
    clock.now = START + 3600
    assert allowed(limit, "c", "alice", 5) == 4  # filled, while the clock was ahead, and not again
    clock.now += 2 * 3600
    assert allowed(limit, "c", "alice", 5) == 0
    limit.reset("c", "somebody else")
    clock.now += 3600
    assert allowed(limit, "c", "alice", 5) == 1


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(-7200, 7200), st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=12),
    rate=st.builds(Rate, st.integers(1, 6), st.integers(1, 30)),
)
def test_never_more_than_the_rate(
    steps: list[tuple[int, int, int]], rate: Rate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, clock = tmp_path_factory.getbasetemp() / "rated", Clock()
    with GalleryStore(path, "m", 4, GalleryKind.PRIVATE) as store:
        store._database.execute("DELETE FROM bucket")
        store._database.execute("UPDATE state SET query_time = 0")
    total, first, latest = 0.0, START + steps[0][0], 0.0
    with QueryLimits(path, verify=rate, clock=clock) as limit:
        for seconds, tries, tokens in steps:
            clock.now += seconds
            latest = max(latest, clock.now)
            total += allowed(limit, "c", "alice", tries, tokens) * min(tokens, rate.capacity)
            assert total <= rate.capacity + (latest - first) / 3600 * rate.per_hour + 1e-3


@pytest.mark.slow
def test_processes_share_one_bucket(path: Path) -> None:
    """Four processes take what they can of forty: together they get forty."""
    gate, released = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 255
            try:
                os.close(released)
                with QueryLimits(path, verify=Rate(40, 1e-3)) as limit:
                    os.read(gate, 1)
                    code = allowed(limit, "c", "alice", 25)
            finally:
                os._exit(code)
        children.append(child)
    os.close(gate)
    os.close(released)  # all begin
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert 255 not in codes
    assert sum(codes) == 40


def test_the_log(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    limit = begin(verify=Rate(1, 1))
    limit.admit("front door", "verify", "alice")
    clock.now += 1
    with pytest.raises(QueryLimitError):
        limit.admit("front door", "verify", "alice")
    limit.admit("desk", "identify", EVERYONE)
    limit.log("desk", "verify", "bob", True)
    found = [(q.time, q.client, q.operation, q.tag, q.allowed) for q in limit.queries()]
    assert found == [
        (START, "front door", "verify", limit.tag("alice"), True),
        (START + 1, "front door", "verify", limit.tag("alice"), False),
        (START + 1, "desk", "identify", None, True),
        (START + 1, "desk", "verify", limit.tag("bob"), True),
    ]
    assert [q.allowed for q in limit.queries("alice")] == [True, False]
    assert [q.client for q in limit.queries(last=1)] == ["desk"]
    assert limit.prune(START + 1) == 1
    assert [q.operation for q in limit.queries()] == ["verify", "identify", "verify", "prune log"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("time", 1e300), ("time", -1.0), ("time", "today"), ("client", b"x"), ("tag", "x"), ("allowed", 7)],
)
def test_a_damaged_line_of_the_log_is_told(
    begin: Callable[..., QueryLimits], path: Path, column: str, value: object
) -> None:
    limit = begin()
    limit.admit("bank", "verify", "Ann")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE query SET {column} = ?", (value,))  # noqa: S608
    with pytest.raises(StoreError, match="^g: expected lines of a query log, got others: the store is damaged$"):
        limit.queries()


def test_the_log_keeps_its_size(begin: Callable[..., QueryLimits], path: Path) -> None:
    limit = begin(kept=5)
    for number in range(12):
        limit.log("c", f"operation {number}", "alice", True)
    assert [q.operation for q in limit.queries()] == [f"operation {number}" for number in range(7, 12)]


def test_buckets_are_bounded(
    begin: Callable[..., QueryLimits], path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_MAX_BUCKETS", 10)
    limit = begin(verify=Rate(2, 1))
    for number in range(10):
        limit.take("c", f"guess {number}")
    with pytest.raises(QueryLimitError) as caught:
        limit.take("c", "guess 10")
    assert caught.value.retry_after_seconds == pytest.approx(3600)
    limit.take("d", "guess 10")  # another client is not held up
    limit.take("c", "guess 3")
    clock.now += 3601  # full buckets need no rows
    limit.take("c", "guess 10")
    assert sqlite3.connect(path).execute("SELECT count(*) FROM bucket").fetchone() == (2,)


def test_names_are_guessed_only_so_often(begin: Callable[..., QueryLimits], clock: Clock) -> None:
    limit = begin(guesses=Rate(3, 1))
    for number in range(3):
        limit.admit("c", "verify", f"guess {number}", enrolled=False)
    for identity, enrolled in (("guess 3", False), ("alice", True)):
        with pytest.raises(QueryLimitError) as caught:
            limit.admit("c", "verify", identity, enrolled=enrolled)
        assert caught.value.retry_after_seconds == pytest.approx(3600), "a right name and a wrong one look the same"
    limit.admit("d", "verify", "alice")  # another client is not held up
    limit.admit("c", "identify", EVERYONE)
    clock.now += 3601
    for _ in range(int(VERIFY.capacity) - 1):
        limit.admit("c", "verify", "alice")  # takes nothing from the bucket of guesses
    limit.admit("c", "verify", "guess 3", enrolled=False)
    limit.reset("c", EVERYONE)
    assert allowed_guesses(limit, "c", 9) == 3


def allowed_guesses(limit: QueryLimits, client: str, tries: int) -> int:
    count = 0
    for number in range(tries):
        with contextlib.suppress(QueryLimitError):
            limit.take(client, f"another guess {number}", enrolled=False)
            count += 1
    return count


def test_no_identity_is_written_and_removal_takes_its_hashes(begin: Callable[..., QueryLimits], path: Path) -> None:
    limit = begin()
    with GalleryStore(path, "m", 4, GalleryKind.PRIVATE) as store:
        store.enroll("somebody", np.zeros(4, np.uint64))
        for identity in ("somebody", "nobody enrolled", "kept"):
            limit.admit("c", "verify", identity)
        tags = {name: limit.tag(name) or b"" for name in ("somebody", "nobody enrolled", "kept")}
        files = lambda: b"".join(file.read_bytes() for file in path.parent.iterdir())  # noqa: E731
        assert all(tag in files() for tag in tags.values())
        assert b"nobody enrolled" not in files()
        store.remove("somebody")
        store.remove("nobody enrolled")
        left = files()
    assert tags["somebody"] not in left
    assert tags["nobody enrolled"] not in left
    assert tags["kept"] in left
    assert b"somebody" not in left
    assert [q.tag for q in limit.queries()] == [None, None, tags["kept"]]


def test_two_stores_have_other_hashes(begin: Callable[..., QueryLimits], tmp_path: Path) -> None:
    GalleryStore(tmp_path / "other", "m", 4, GalleryKind.PRIVATE).close()
    with QueryLimits(tmp_path / "other") as other:
        assert other.tag("alice") != begin().tag("alice")


@pytest.mark.parametrize("rate", [(0, 1), (0.5, 1), (1, 0), (1, 1e-7), (1, -1), (float("nan"), 1), (1, float("inf"))])
def test_rates_out_of_range(rate: tuple[float, float]) -> None:
    with pytest.raises(ParameterError, match="expected 1 query or more"):
        Rate(*rate)


@pytest.mark.parametrize(
    ("seconds", "told"), [(-5, 0), (0, 0), (5, 5), (1e300, 1e12), (float("inf"), 1e12), (float("nan"), 0)]
)
def test_a_refusal_tells_a_time_that_clients_take(seconds: float, told: float) -> None:
    error = QueryLimitError(seconds)
    assert error.retry_after_seconds == told
    assert str(error).endswith(f"the next is allowed in {told:.0f} s")


def test_names_out_of_range(begin: Callable[..., QueryLimits]) -> None:
    limit = begin()
    for client, identity in [("", "a"), ("x" * 257, "a"), ("new\nline", "a"), ("c", ""), ("c", "x" * 10_001)]:
        with pytest.raises(ParameterError):
            limit.admit(client, "verify", identity)
    with pytest.raises(ParameterError):
        limit.log("c", "", "a", True)
    limit.take("c", "\ud800")  # no identity, but a question about one
    with pytest.raises(ParameterError):
        begin(kept=-1)


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="got no file"):
        QueryLimits(tmp_path / "missing")
