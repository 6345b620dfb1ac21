"""Costs: what the recorder measures, how two parties' reports join, and what a malformed report does."""

import time
from typing import Any

import numpy as np
import pytest

from parties.session.cost import OFFLINE, ONLINE, CostReport, Recorder, StageCost, merge, server_report
from parties.transport.queues import local_channels
from protocols.document import Document
from protocols.errors import ProtocolError

CLIENT_STAGES = (
    StageCost(ONLINE, "conv", client_seconds=1.5, elapsed_seconds=2.0, bytes_up=100, bytes_down=40, rounds=2),
    StageCost(OFFLINE, "keys", client_seconds=0.5, elapsed_seconds=0.75, bytes_up=7, dealer_bytes=10, rounds=1),
    StageCost(ONLINE, "fc", client_seconds=0.25, elapsed_seconds=1.0, bytes_up=1, bytes_down=2, rounds=3),
)


def test_totals() -> None:
    report = CostReport(CLIENT_STAGES)
    assert report.online == StageCost(
        ONLINE, "total", client_seconds=1.75, elapsed_seconds=3.0, bytes_up=101, bytes_down=42, rounds=5
    )
    assert report.offline == StageCost(
        OFFLINE, "total", client_seconds=0.5, elapsed_seconds=0.75, bytes_up=7, dealer_bytes=10, rounds=1
    )
    assert report.total(ONLINE, CLIENT_STAGES[2:], "fully connected").bytes_up == 1
    assert CostReport(()).online == StageCost(ONLINE, "total")


def test_document() -> None:
    document = CostReport(CLIENT_STAGES).document()
    assert set(document) == {"offline", "online", "stages"}
    assert document["online"]["bytes_up"] == 101
    assert [StageCost(**stage) for stage in document["stages"]] == list(CLIENT_STAGES)


def test_merge_adds_the_servers_figures_and_puts_offline_first() -> None:
    server = [
        StageCost(OFFLINE, "keys", client_seconds=0.125, dealer_bytes=5),
        StageCost(ONLINE, "conv", client_seconds=3.0, dealer_bytes=1),
    ]
    merged = merge(CLIENT_STAGES, Document(server_report(server), "cost"))
    assert [stage.stage for stage in merged.stages] == ["keys", "conv", "fc"]
    keys, conv, fc = merged.stages
    assert (keys.client_seconds, keys.server_seconds, keys.dealer_bytes, keys.bytes_up) == (0.5, 0.125, 15, 7)
    assert (conv.client_seconds, conv.server_seconds, conv.dealer_bytes) == (1.5, 3.0, 1)
    assert fc == CLIENT_STAGES[2]


def test_merge_sums_a_stage_that_ran_twice() -> None:
    twice = [StageCost(OFFLINE, "zeros", client_seconds=1.0, bytes_up=10, rounds=1)] * 2
    merged = merge(
        twice, Document(server_report([StageCost(OFFLINE, "zeros", client_seconds=2.0, dealer_bytes=3)] * 2), "cost")
    )
    assert merged.offline == StageCost(
        OFFLINE, "total", client_seconds=2.0, server_seconds=4.0, bytes_up=20, dealer_bytes=6, rounds=2
    )


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"stages": 5},
        {"stages": [[ONLINE, "conv", 1.0]]},
        {"stages": [[ONLINE, "conv", "x", 1]]},
        {"stages": [[ONLINE, "conv", 1.0, None]]},
        {"stages": ["abcd"]},
        {"stages": [["onlined", "conv", 1.0, 1]]},
        {"stages": [[ONLINE, "conv", True, 1]]},
        {"stages": [[ONLINE, "conv", 1.0, True]]},
        {"stages": [], "more": 1},
        pytest.param({"stages": [[ONLINE, "conv", 1.0, float("inf")]]}, id="infinite bytes"),
        pytest.param({"stages": [[ONLINE, "conv", 10**400, 1]]}, id="endless seconds"),
    ],
    ids=repr,
)
def test_a_malformed_report_of_the_server_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="^expected "):
        merge(CLIENT_STAGES, Document(report, "cost"))


def test_the_recorder_tells_stages_apart() -> None:
    channel, peer = local_channels("client", "server")
    dealer, _ = local_channels("client", "dealer")
    recorder = Recorder(channel, dealer)
    array = np.zeros(4, dtype=np.uint64)
    with recorder.recording(OFFLINE, "keys"):
        dealer.send("request", array)
    recorder.stage(ONLINE, "first")
    channel.send("a", array)
    peer.receive("a", np.uint64, (4,))
    peer.send("b", array)
    channel.receive("b", np.uint64, (4,))
    recorder.stage(ONLINE, "second")
    channel.send("c", array)
    keys, first, second = recorder.take()
    size = peer.statistics.bytes_sent
    assert (keys.phase, keys.stage, keys.dealer_bytes, keys.bytes_up, keys.rounds) == (OFFLINE, "keys", size, 0, 0)
    assert (first.bytes_up, first.bytes_down, first.dealer_bytes, first.rounds) == (size, size, 0, 2)
    assert (second.bytes_up, second.bytes_down, second.rounds) == (size, 0, 1)
    assert recorder.take() == []


def test_waiting_is_not_own_work() -> None:
    channel, _ = local_channels("client", "server")
    dealer, _ = local_channels("client", "dealer")
    recorder = Recorder(channel, dealer)
    pause = 0.05
    with recorder.recording(ONLINE, "step"):
        time.sleep(pause)  # own work, to a clock
        channel.statistics.wait_seconds += 10  # as if the peer had been slow
    (stage,) = recorder.take()
    assert stage.elapsed_seconds >= pause
    assert stage.client_seconds == pytest.approx(stage.elapsed_seconds - 10)
