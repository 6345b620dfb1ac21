"""The pool's arithmetic against a plain model, turns of requests and background, and the thread that refills."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from parties.prepared.pool import MAX_PREPARED_IMAGES, PARTS, BackgroundRefill, Pool, Turns, layers_of_part
from parties.prepared.shape import MAX_BATCH, RunShape
from protocols.errors import ParameterError, PeerLostError

KINDS = [RunShape(1, 1), RunShape(2, 1), RunShape(1, 0), RunShape(3, 3)]
GUARD_SECONDS = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; a test that waits longer than a second or so is about to fail."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


class PoolMachine(RuleBasedStateMachine):
    """A pool over a peer that keeps every preparation as a list of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(self.peer)
        self.fails = False
        self.begun: tuple[RunShape, int] | None = None
        self.made: Counter[RunShape] = Counter()
        self.used: Counter[RunShape] = Counter()

    def peer(self, kind: RunShape, part: int) -> None:
        """What the server does: it takes the next part of what was begun, or the first of anything."""
        if part:
            assert self.begun == (kind, part), "a part is left out, repeated, or of another kind"
        else:
            assert self.begun is None, "a preparation is begun amid another"
        self.begun = None
        if self.fails:
            raise PeerLostError("the peer is gone")
        if part + 1 < PARTS:
            self.begun = kind, part + 1
        else:
            self.made[kind] += 1

    def refused(self, kind: RunShape) -> None:
        """What is refused would have been too much, and nothing was begun."""
        held = sum(entry.images * (self.made[entry] - self.used[entry]) for entry in self.made)
        assert held + kind.images > MAX_PREPARED_IMAGES
        assert self.begun is None

    @rule(kind=st.sampled_from(KINDS))
    def step(self, kind: RunShape) -> None:
        try:
            self.pool.step(kind)
        except ParameterError:
            self.refused(kind)

    @rule(kind=st.sampled_from(KINDS))
    def prepare(self, kind: RunShape) -> None:
        before = self.made[kind]
        try:
            self.pool.prepare(kind)
        except ParameterError:
            self.refused(kind)
            return
        assert self.made[kind] == before + 1
        assert self.begun is None

    @rule(kind=st.sampled_from(KINDS))
    def take(self, kind: RunShape) -> None:
        left = self.made[kind] - self.used[kind]
        try:
            assert self.pool.take(kind) is (left > 0)
        except ParameterError:
            self.refused(kind)
            return
        self.used[kind] += 1
        assert self.used[kind] <= self.made[kind], "handed out twice"

    @rule(kind=st.sampled_from(KINDS), method=st.sampled_from(["step", "prepare", "take"]))
    def fail(self, kind: RunShape, method: str) -> None:
        if method == "take" and self.pool.ready(kind):
            return
        self.fails = True
        with pytest.raises((PeerLostError, ParameterError)):  # the second if the pool is full
            getattr(self.pool, method)(kind)
        self.fails = False

    @invariant()
    def counts_are_the_models(self) -> None:
        for kind in KINDS:
            assert self.pool.ready(kind) == self.made[kind] - self.used[kind]
            assert self.pool.begun(kind) == (self.begun[1] if self.begun and self.begun[0] == kind else 0)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase


@pytest.mark.parametrize(("images", "decisions"), [(0, 0), (-1, 0), (17, 17), (17, 0), (1, 2), (3, 1), (3, 2), (2, -1)])
def test_kinds_that_there_are_not(images: int, decisions: int) -> None:
    with pytest.raises(ParameterError, match=r"^expected "):
        RunShape(images, decisions)


def test_kinds_that_there_are() -> None:
    kinds = {RunShape(images, decisions) for images in range(1, MAX_BATCH + 1) for decisions in (0, images)}
    assert len(kinds | {RunShape(2, 1)}) == 2 * MAX_BATCH + 1


def test_what_is_begun_takes_room() -> None:
    pool = Pool(lambda shape, part: None)
    pool.prepare(RunShape(16, 0))
    pool.step(RunShape(15, 0))
    assert [pool.fits(RunShape(images, 0)) for images in (1, 2)] == [True, False]
    assert pool.room(RunShape(2, 0)), "what was begun can be finished"


@given(st.lists(st.text(max_size=5), max_size=40, unique=True))
@settings(deadline=None)
@example(["a\0", "a"])
def test_the_parts_share_out_the_layers_in_order(names: list[str]) -> None:
    parts = [layers_of_part(names, part) for part in range(PARTS)]
    assert list(chain(*parts)) == names
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# Turns


def test_a_request_goes_before_the_background() -> None:
    turns = Turns()
    order: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with turns.request():
            entered.set()
            leave.wait(GUARD_SECONDS)

    def background() -> None:
        with turns.background(lambda: True):
            order.append("background")

    def request() -> None:
        with turns.request():
            order.append("request")

    threads = [threading.Thread(target=work) for work in (first, background, request)]
    threads[0].start()
    entered.wait(GUARD_SECONDS)
    threads[1].start()
    time.sleep(0.05)  # the background waits first, and yet goes last
    threads[2].start()
    until(lambda: turns._requests == 1)
    leave.set()
    for thread in threads:
        thread.join(GUARD_SECONDS)
    assert order == ["request", "background"]


def test_turns_never_overlap() -> None:
    turns = Turns()
    inside = 0
    count = 0

    def work(enter: Callable[[], object]) -> None:
        nonlocal inside, count
        for _ in range(30):
            with enter():  # type: ignore[attr-defined]
                inside += 1
                assert inside == 1
                time.sleep(0.0005)
                inside -= 1
                count += 1

    enters = [turns.request, turns.request, lambda: turns.background(lambda: True)]
    threads = [threading.Thread(target=work, args=(enter,)) for enter in enters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD_SECONDS)
    assert (inside, count) == (0, 90)


@pytest.mark.parametrize("turn", ["request", "background"])
def test_an_error_ends_the_turn(turn: str) -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns.request() if turn == "request" else turns.background(lambda: True):
        raise KeyError
    with turns.request():
        pass


def test_a_request_that_is_interrupted_while_it_waits_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()

    def interrupt(predicate: Callable[[], bool]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(turns._condition, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt), turns.request():
            pytest.fail("it was not its turn")
    pool = Pool(lambda kind, part: None)
    with BackgroundRefill(pool, turns, KINDS[0], 1):
        until(lambda: pool.ready(KINDS[0]) == 1)


# Refilling


def test_the_background_fills_the_pool_to_its_capacity_and_again() -> None:
    parts: list[tuple[RunShape, int]] = []
    pool, turns = Pool(lambda kind, part: parts.append((kind, part))), Turns()
    kind = KINDS[0]
    with BackgroundRefill(pool, turns, kind, 2):
        until(lambda: pool.ready(kind) == 2)
        time.sleep(0.05)
        assert parts == [(kind, part) for part in range(PARTS)] * 2, "more than its capacity"
        with turns.request():
            assert pool.take(kind) is True
        until(lambda: pool.ready(kind) == 2)
    assert len(parts) == 3 * PARTS


def test_the_background_stops_after_the_part_under_way() -> None:
    inside, leave = threading.Event(), threading.Event()
    parts: list[int] = []

    def prepare(kind: RunShape, part: int) -> None:
        parts.append(part)
        inside.set()
        leave.wait(GUARD_SECONDS)

    pool = Pool(prepare)
    refill = BackgroundRefill(pool, Turns(), KINDS[0], 3)
    with refill:
        inside.wait(GUARD_SECONDS)
        threading.Timer(0.05, leave.set).start()
    assert parts == [0]
    assert not refill._thread.is_alive()
    assert pool.begun(KINDS[0]) == 1


def test_a_full_pool_stops_at_once() -> None:
    pool = Pool(lambda kind, part: None)
    with BackgroundRefill(pool, Turns(), KINDS[0], 1) as refill:
        until(lambda: pool.ready(KINDS[0]) == 1)
        begun = time.monotonic()
    assert not refill._thread.is_alive()
    assert time.monotonic() - begun < GUARD_SECONDS / 2


def test_an_error_ends_the_background_before_the_request_that_waits() -> None:
    inside, leave = threading.Event(), threading.Event()

    def prepare(kind: RunShape, part: int) -> None:
        inside.set()
        leave.wait(GUARD_SECONDS)
        raise PeerLostError("the peer is gone")

    for _ in range(20):
        inside.clear()
        leave.clear()
        turns = Turns()
        with BackgroundRefill(Pool(prepare), turns, KINDS[0], 3) as refill:
            inside.wait(GUARD_SECONDS)
            threading.Timer(0.002, leave.set).start()
            with turns.request():
                assert isinstance(refill.error, PeerLostError), "the request that waited does not see it"
        assert not refill._thread.is_alive()


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_background_without_anything_to_do(capacity: int) -> None:
    with pytest.raises(ParameterError, match=r"^expected to keep at least one run prepared"):
        BackgroundRefill(Pool(lambda kind, part: None), Turns(), KINDS[0], capacity)
