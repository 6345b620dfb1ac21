"""The simulated network: when messages arrive, to the nanosecond, on a clock that only the tests move."""

import math
import struct
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridface import local_session
from hybridface.models.model import load_model
from parties.transport.queues import LocalTransport, local_channels
from parties.transport.shaping import Clock, ShapedTransport, machine_id, shaped
from protocols import channel as channel_module
from protocols.channel import Channel
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.link import LAN, LINKS, MOBILE, NONE, WAN, Link, link_named

pytestmark = pytest.mark.slow

SECOND = 10**9
STAMP = 16
SLOW = Link("slow", 8000, 0.5)
"""A millisecond a byte, and half a second on the way."""


class Time:
    """A clock that stands still but for the sleeps on it, which are kept."""

    def __init__(self, now: int = 1_000 * SECOND) -> None:
        self.now, self.start = now, now
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now += round(seconds * SECOND)

    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)

    @property
    def passed(self) -> int:
        return self.now - self.start


def linked(
    link: Link, time: Time, timeout: float = 1e6, other: Link | None = None
) -> tuple[ShapedTransport, ShapedTransport, LocalTransport]:
    """Return the client's end, the server's (perhaps with another profile), and what lies under the server's."""
    to_server, to_client = (channel.transport for channel in local_channels("client", "server", 0.05))
    assert isinstance(to_client, LocalTransport)
    return (
        ShapedTransport(to_server, link, "server", timeout, time.clock()),
        ShapedTransport(to_client, other or link, "client", timeout, time.clock()),
        to_client,
    )


def arrivals(below: LocalTransport, count: int) -> list[int]:
    """Return the arrival times that stand before the next messages, as nanoseconds."""
    return [struct.unpack_from("<4s4sQ", below.receive(1 << 30))[2] for _ in range(count)]


# Profiles


def test_the_named_profiles() -> None:
    assert {name: (p.bits_per_second, p.delay_seconds) for name, p in LINKS.items()} == {
        "none": (math.inf, 0),
        "lan": (3e9, 0.0003),
        "wan": (400e6, 0.04),
        "mobile": (50e6, 0.06),
    }
    assert [link.shapes for link in (NONE, LAN, WAN, MOBILE)] == [False, True, True, True]
    assert link_named("wan") is WAN
    with pytest.raises(ParameterError, match=r"^expected a network named none, lan, wan or mobile, got 'lte'$"):
        link_named("lte")


def test_seconds_of_a_transfer() -> None:
    assert MOBILE.transfer_seconds(6_250_000) == pytest.approx(1.06)
    assert WAN.transfer_seconds(0, flights=3) == pytest.approx(0.12)
    assert NONE.transfer_seconds(10**12, flights=1000) == 0
    assert LAN.sending_nanoseconds(3) == 8
    assert LAN.sending_nanoseconds(1) == 3, "rounded up"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (("", 1e6, 0), "link's name"),
        (("x" * 17, 1e6, 0), "link's name"),
        (("two words", 1e6, 0), "link's name"),
        (("ü", 1e6, 0), "link's name"),
        (("x", 999, 0), "a rate of at least 1000 bit/s, got 999"),
        (("x", math.nan, 0), "a rate of at least 1000 bit/s, got nan"),
        (("x", 1e6, -0.1), "a delay of 0 to 3600 s, got -0.1"),
        (("x", 1e6, math.inf), "a delay of 0 to 3600 s, got inf"),
        (("x", 1e6, math.nan), "a delay of 0 to 3600 s, got nan"),
    ],
)
def test_a_profile_out_of_range_is_refused(values: Any, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Link(*values)


# Arrival


def test_messages_queue_behind_each_other_and_then_travel() -> None:
    time = Time()
    client, _, below = linked(SLOW, time)
    client.send(bytes(100))
    client.send(bytes(20))
    assert time.sleeps == [], "sending waits"
    time.now += 2 * SECOND
    client.send(bytes(1))
    first, second, third = (arrival - time.start for arrival in arrivals(below, 3))
    assert first == SECOND // 10 + SECOND // 2
    assert second == first + SECOND // 50, "only its own bytes after the first: the delays overlap"
    assert third == 2 * SECOND + SECOND // 1000 + SECOND // 2, "the link was idle"


def test_the_receiver_sleeps_until_the_arrival_and_not_when_it_is_late() -> None:
    time = Time()
    client, server, _ = linked(SLOW, time)
    client.send(b"a" * 100)
    client.send(b"b" * 20)
    assert server.receive(100) == b"a" * 100
    assert time.passed == 600_000_000
    time.now += SECOND
    assert server.receive(20) == b"b" * 20
    assert time.sleeps == [0.6]


def test_a_sleep_that_ends_early_is_not_the_arrival() -> None:
    time = Time()
    half = Clock(lambda: time.now, lambda seconds: time.sleep(seconds / 2 if seconds > 0.01 else seconds))
    to_server, to_client = (channel.transport for channel in local_channels("client", "server", 0.05))
    ShapedTransport(to_server, SLOW, "server", 10, half).send(b"x")
    assert ShapedTransport(to_client, SLOW, "client", 10, half).receive(1) == b"x"
    assert time.passed >= 501_000_000


def test_the_directions_do_not_wait_for_each_other() -> None:
    time = Time()
    client, server, _ = linked(SLOW, time)
    server.send(b"b" * 1000)
    assert client.exchange(b"a" * 50, 1000) == b"b" * 1000
    assert time.passed == 1_500_000_000
    assert server.receive(50) == b"a" * 50
    assert time.passed == 1_500_000_000, "it came while the other was on its way"


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 10**10)), min_size=1, max_size=12),
    st.floats(1000, 1e12),
    st.floats(0, 3600),
)
@settings(max_examples=200, deadline=None)
def test_no_message_arrives_before_its_time_or_before_an_earlier_one(
    plan: list[tuple[int, int]], rate: float, delay: float
) -> None:
    time = Time()
    link = Link("any", rate, delay)
    client, _, below = linked(link, time)
    sent = []
    for size, pause in plan:
        time.now += pause
        sent.append(time.now)
        client.send(bytes(size))
    came = arrivals(below, len(plan))
    assert came == sorted(came)
    for (size, _), start, arrival in zip(plan, sent, came, strict=True):
        least = link.transfer_seconds(size) * SECOND
        assert arrival - start >= least * (1 - 1e-12)
    busy = sum(size for size, _ in plan) * 8 / rate * SECOND
    assert came[-1] - sent[0] >= busy * (1 - 1e-12), "more than the link carries"
    idle = sent[-1] + busy + delay * SECOND + 2 * len(plan)
    assert came[-1] <= idle * (1 + 1e-12), "slower than one after another"


# What is refused


def test_a_message_that_would_arrive_after_the_deadline_is_refused_without_waiting() -> None:
    time = Time()
    client, server, _ = linked(SLOW, time, timeout=3)
    client.send(bytes(2500))
    server.receive(2500)
    assert time.sleeps == [3.0]
    client.send(bytes(2501))
    with pytest.raises(
        ProtocolError, match=r"^expected a message from client to arrive within 3 s, but its stamp says 3.0 s$"
    ):
        server.receive(2501)
    assert time.sleeps == [3.0]


@pytest.mark.parametrize("arrival", [2**64 - 1, 2**63, 4_001 * SECOND])
def test_a_stamp_far_ahead_is_refused_without_waiting(arrival: int) -> None:
    time = Time()
    client, server, below = linked(WAN, time, timeout=3000)
    client.send(b"hello")
    stamp = below.receive(100)[:8] + struct.pack("<Q", arrival)
    client._transport.send(stamp + b"hello")
    with pytest.raises(ProtocolError, match="expected a message from client to arrive within 3000 s") as caught:
        server.receive(5)
    assert "\n" not in str(caught.value)
    assert time.sleeps == []


def test_a_stamp_of_the_past_waits_for_nothing() -> None:
    time = Time()
    client, server, below = linked(WAN, time)
    client.send(b"hello")
    client._transport.send(below.receive(100)[:8] + bytes(8) + b"hello")
    assert server.receive(5) == b"hello"
    assert time.sleeps == []


@given(st.binary(min_size=1, max_size=40) | st.binary(max_size=40).map(lambda tail: b"HFNW" + tail))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused_in_one_line(message: bytes) -> None:
    time = Time()
    client, server, _ = linked(WAN, time)
    client._transport.send(message)
    with pytest.raises(ProtocolError) as caught:
        server.receive(100)
    assert "\n" not in str(caught.value)
    assert time.sleeps == []


@pytest.mark.parametrize("other", [MOBILE, Link("wan", 401e6, 0.04), Link("wan", 400e6, 0.041)])
def test_ends_with_different_profiles_say_so(other: Link) -> None:
    client, server, _ = linked(WAN, Time(), other=other)
    client.send(b"hello")
    with pytest.raises(ProtocolError, match=f"expected the simulated network {other.name}, but client has another"):
        server.receive(5)


def test_an_end_without_a_profile_is_noticed_by_both() -> None:
    to_server, to_client = local_channels("client", "server", 0.05)
    to_server.transport = shaped(to_server.transport, LAN, "server", 5)
    array = np.zeros(4, dtype=np.uint64)
    to_client.send("step", array)
    with pytest.raises(
        ProtocolError, match="expected a message over the simulated network lan from server, got one without"
    ):
        to_server.receive("step", np.uint64, (4,))
    to_server.send("step", array)
    with pytest.raises(ProtocolError, match="expected protocol version 3, got b'HF'"):
        to_client.receive("step", np.uint64, (4,))


def test_the_limits_of_the_transport_below_hold() -> None:
    client, server, _ = linked(WAN, Time())
    client.send(bytes(101))
    with pytest.raises(ProtocolError, match="expected at most"):
        server.receive(100)
    with pytest.raises(PeerLostError, match=r"within 0\.01 s"):
        server.receive(100, 0.01)
    client.close()
    with pytest.raises(PeerLostError, match="it has ended"):
        server.receive(100)


# In a channel and a session


def test_waiting_for_the_arrival_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    monkeypatch.setattr(channel_module.time, "perf_counter", lambda: time.now / SECOND)
    ends = linked(SLOW, time)
    client, server = Channel(ends[0], "server"), Channel(ends[1], "client")
    client.send("step", np.arange(6, dtype=np.uint64))
    server.receive("step", np.uint64, (6,))
    assert client.statistics.wait_seconds == 0
    assert server.statistics.wait_seconds == pytest.approx(0.5 + (16 + 8 + 48) / 1000)


def test_counted_bytes_are_the_frames() -> None:
    time = Time()
    plain, shaped_ends = local_channels("client", "server", 1), linked(SLOW, time)
    slow = Channel(shaped_ends[0], "server"), Channel(shaped_ends[1], "client")
    for client, server in (plain, slow):
        client.send("step", np.arange(6, dtype=np.uint64))
        server.receive("step", np.uint64, (6,))
        server.send_error("no more")
        with pytest.raises(PeerLostError, match="server ended: no more"):
            client.receive("step", np.uint64, (6,))
    for one, other in zip(plain, slow, strict=True):
        assert (one.statistics.bytes_sent, one.statistics.bytes_received, one.statistics.rounds) == (
            other.statistics.bytes_sent,
            other.statistics.bytes_received,
            other.statistics.rounds,
        )


def test_none_is_no_shaping_and_the_others_are() -> None:
    (below, _) = (channel.transport for channel in local_channels("client", "server"))
    assert shaped(below, NONE, "server", 5) is below
    for end in local_channels("client", "server", 5, LAN):
        assert isinstance(end.transport, ShapedTransport)
    for end in local_channels("client", "server", 5):
        assert isinstance(end.transport, LocalTransport)


def test_the_real_clock_makes_a_receiver_wait() -> None:
    client, server = local_channels("client", "server", 5, Link("short", 1e6, 0.02))
    start = monotonic()
    client.send("step", np.zeros(125 - 16, dtype=np.uint8))
    server.receive("step", np.uint8, (125 - 16,))
    assert monotonic() - start >= 0.021


def test_a_session_over_a_simulated_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("tiny-test")
    chips = list(np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    link, ends = Link("short", 1e9, 0.002), []

    def channels(*arguments: Any) -> Any:
        ends.append(arguments[:2])
        both = local_channels(*arguments)
        assert [getattr(end.transport, "_link", NONE) for end in both] == [link, link]
        return both

    with local_session(model) as session:
        plain = session.verify(*chips)
    monkeypatch.setattr("hybridface.local.parties.local_channels", channels)
    with local_session(model, link=link) as session:
        result = session.verify(*chips)
    assert ends == [("client", "server")]
    assert result.match == plain.match
    assert result.cost.online.bytes_up == plain.cost.online.bytes_up
    assert result.cost.online.rounds == plain.cost.online.rounds
    assert result.cost.online.elapsed_seconds > result.cost.online.rounds / 2 * 0.002
    with pytest.raises(ParameterError, match="expected a network named"):
        local_session(model, link="lte")


def test_a_machine_knows_itself() -> None:
    assert machine_id() == machine_id()
    assert len(machine_id()) == 8
