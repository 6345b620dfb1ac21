"""Channels: what comes is what was sent, everything else is refused, and both ends count alike."""

import copy
import json
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.transport.queues import local_channels
from protocols.channel import Channel, tag_of
from protocols.document import Document
from protocols.errors import (
    UNTOLD,
    HiddenError,
    HybridFaceError,
    ParameterError,
    PeerLostError,
    ProtocolError,
    reason_for_peers,
)
from protocols.frame import Direction
from support.frames import outcome, record, sealed

LABEL = "test/step"
EXPECTED = np.arange(6, dtype=np.uint64).reshape(2, 3)
HEADER = 16


def channels(timeout: float = 5.0) -> tuple[Channel, Channel]:
    return local_channels("client", "server", timeout)


def receive_raw(frame: bytes) -> Any:
    """Let the server receive a frame where it expects `EXPECTED`."""
    client, server = channels()
    client.transport.send(frame)
    return server.receive(LABEL, np.uint64, (2, 3))


def receive_sealed(frame: bytes) -> Any:
    """The same, with a number and a checksum that fit."""
    return receive_raw(sealed(frame) if len(frame) >= HEADER else frame)


def header(
    magic: bytes = b"HF", version: int = 3, code: int = 1, tag: int | None = None, shape: tuple[int, ...] = (2, 3)
) -> bytes:
    tag = tag_of(LABEL) if tag is None else tag
    return struct.pack("<2sBBIB7x", magic, version, code, tag, len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)


DATA = EXPECTED.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5, dtype=np.uint8),
        np.array(7, dtype=np.int64),
        np.zeros((0, 3), dtype=np.uint64),
        np.linspace(-1, 1, 12).reshape(3, 4).T,
        np.zeros((1,) * 8, dtype=np.uint64),
    ],
)
def test_an_array_arrives_as_sent_and_belongs_to_the_receiver(array: Any) -> None:
    client, server = channels()
    client.send(LABEL, array)
    came = server.receive(LABEL, array.dtype, array.shape)
    assert came.dtype == array.dtype
    assert came.shape == array.shape
    assert (came == array).all()
    assert came.flags.writeable


def test_the_frame_built_here_is_the_protocols() -> None:
    assert sealed(header() + DATA) == Direction().frame(LABEL, EXPECTED)
    assert (receive_sealed(header() + DATA) == EXPECTED).all()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (header()[:1], "expected a header of 16 bytes, got 1"),
        (header()[: HEADER - 1], "expected a header of 16 bytes, got 15"),
        (header()[: HEADER + 7], "truncated header"),
        (header() + DATA[:-1], "expected 48 bytes of data, got 47"),
        (header() + DATA + b"\0", "expected 48 bytes of data, got 49"),
        (header(), "expected 48 bytes of data, got 0"),
        (header() + DATA * 30, "expected at most 1024 bytes"),
        (header(magic=b"XX") + DATA, "expected protocol version 3"),
        (header(version=1) + DATA, "expected protocol version 3, got b'HF' version 1"),
        (header(tag=1) + DATA, "out of step"),
        (header(code=2) + DATA, "expected uint64 .*, got int64"),
        (header(code=77) + DATA, "expected uint64 .*, got 77"),
        (header(shape=(3, 2)) + DATA, r"got uint64 \(3, 2\)"),
        (header(shape=(6,)) + DATA, r"got uint64 \(6,\)"),
        (header(shape=()) + DATA, r"got uint64 \(\)"),
        (header(shape=(1,) * 9) + DATA, "truncated header"),
        (header(shape=(2**64 - 1,) * 8) + DATA, "expected uint64"),
    ],
)
def test_a_malformed_frame_is_refused_in_one_line(frame: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as caught:
        receive_sealed(frame)
    assert "\n" not in str(caught.value)


def test_an_exchange_refuses_a_malformed_frame_too() -> None:
    client, server = channels()
    client.transport.send(sealed(header(tag=1) + DATA))
    with pytest.raises(ProtocolError, match="out of step"):
        server.exchange(LABEL, EXPECTED)


@pytest.mark.parametrize("array", [np.zeros(2, dtype=np.float32), np.zeros(2, dtype=">u8"), np.zeros((1,) * 9)])
def test_an_array_that_cannot_be_framed_is_not_sent(array: Any) -> None:
    client, _ = channels()
    with pytest.raises(ProtocolError, match="cannot send"):
        client.send(LABEL, array)
    assert client.statistics.bytes_sent == 0


def test_an_error_report_ends_the_peer_with_its_text_in_one_line() -> None:
    client, server = channels()
    client.send_error("the disk\nis \x1b[31m full " + "x" * 1000)
    with pytest.raises(PeerLostError, match=r"client ended: the diskis \[31m full x+$") as caught:
        server.receive(LABEL, np.uint64, (2, 3))
    assert len(str(caught.value)) < 450


@pytest.mark.parametrize("text", [b"", b"\xff\xfe bad", b"y" * 900])
def test_any_error_report_is_readable(text: bytes) -> None:
    with pytest.raises(PeerLostError, match="client ended"):
        receive_sealed(header(code=255, shape=(len(text),)) + text)


def test_an_error_report_never_raises() -> None:
    channels()[0].send_error("cannot read \udcff.jpg")


@given(st.binary(min_size=1, max_size=200) | st.binary(max_size=150).map(lambda tail: header()[:HEADER] + tail))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_raise_anything_else(frame: bytes) -> None:
    for receive in (receive_raw, receive_sealed):
        came, error = outcome(receive, frame)
        assert "\n" not in error
        assert error or frame == Direction().frame(LABEL, came)


@given(st.lists(st.tuples(st.integers(0, HEADER + 16 + 47), st.integers(1, 255)), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_a_damaged_frame_never_raises_anything_else(damage: list[tuple[int, int]]) -> None:
    frame = bytearray(header() + DATA)
    for position, change in damage:
        frame[position] ^= change
    came, error = outcome(receive_sealed, bytes(frame))
    assert error or came.tobytes() == bytes(frame[HEADER + 16 :])


def receive_document(payload: bytes, size: int | None = None) -> Document:
    client, server = channels()
    client.send("doc/size", np.array([len(payload) if size is None else size], dtype=np.uint64))
    client.send("doc", np.frombuffer(payload, dtype=np.uint8))
    return server.receive_document("doc")


@pytest.mark.parametrize("more", [0, 1])
def test_a_document_is_sent_up_to_the_size_that_the_peer_takes(more: int) -> None:
    client, server = channels()
    frames = record(client)
    document = {"a": "x" * ((1 << 20) - len('{"a": ""}') + more)}
    if more:
        with pytest.raises(ParameterError, match="cannot send doc: expected at most 1048576 bytes, got 1048577; send"):
            client.send_document("doc", document)
        assert frames == [], "the peer is not out of step"
        document = {}
    client.send_document("doc", document)
    assert server.receive_document("doc").fields == document


def test_a_document_arrives_as_sent() -> None:
    client, server = channels()
    client.send_document("doc", {"a": [1, 2.5, None], "ü": "text"})
    assert server.receive_document("doc").fields == {"a": [1, 2.5, None], "ü": "text"}


@pytest.mark.parametrize(
    ("payload", "size", "reason"),
    [
        (b"[1]", None, "expected a JSON object, got a list of 1"),
        (b"null", None, "expected a JSON object, got null"),
        (b"{", None, "expected JSON"),
        (b"\xff\xfe{}", None, "expected JSON"),
        (b"{}", 0, "expected 1 to 1048576 bytes, got 0"),
        (b"{}", 2**20 + 1, "expected 1 to 1048576 bytes"),
        (b"{}", 2**64 - 1, "expected 1 to 1048576 bytes"),
        (b"{}", 3, r"expected uint8 \(3,\)"),
    ],
)
def test_a_malformed_document_is_refused(payload: bytes, size: int | None, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        receive_document(payload, size)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_deeply_nested_document_is_refused(opening: bytes) -> None:
    with pytest.raises(ProtocolError):
        receive_document(opening * 100_000)


@pytest.mark.slow
@given(st.binary(min_size=1, max_size=60) | st.text(alphabet='{}[]":,1e-', min_size=1).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_random_documents_never_raise_anything_else(payload: bytes) -> None:
    document, error = outcome(receive_document, payload)
    assert "\n" not in error
    assert error or document.fields == json.loads(payload)


steps = st.lists(st.sampled_from(["there", "back", "exchange", "document"]), max_size=20)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_both_ends_count_the_same_bytes_and_rounds(plan: list[str]) -> None:
    client, server = channels()
    rounds, flight = 0, ""
    for step in plan:
        direction = "there" if step == "document" else step
        rounds += direction == "exchange" or direction != flight
        flight = direction
        if step == "there":
            client.send(LABEL, EXPECTED)
            server.receive(LABEL, np.uint64, (2, 3))
        elif step == "back":
            server.send(LABEL, EXPECTED)
            client.receive(LABEL, np.uint64, (2, 3))
        elif step == "document":
            client.send_document("doc", {"a": 1})
            server.receive_document("doc")
        else:
            ahead = copy.copy(client._sent).frame(LABEL, EXPECTED)  # what the client's exchange will send
            client.transport.send(ahead)
            server.exchange(LABEL, EXPECTED)
            client.transport.send = lambda payload, timeout=None: None  # type: ignore[method-assign]
            client.exchange(LABEL, EXPECTED)
            del client.transport.send  # type: ignore[method-assign]
    ours, theirs = client.statistics, server.statistics
    assert (ours.bytes_sent, ours.bytes_received) == (theirs.bytes_received, theirs.bytes_sent)
    assert ours.rounds == theirs.rounds == rounds
    sizes = {"there": (80, 0), "back": (0, 80), "exchange": (80, 80), "document": (24 + 8 + 24 + 8, 0)}
    assert (ours.bytes_sent, ours.bytes_received) == tuple(sum(sizes[s][i] for s in plan) for i in (0, 1))


def test_a_snapshot_stays_as_it_was() -> None:
    client, _ = channels()
    before = copy.copy(client.statistics)
    client.send(LABEL, EXPECTED)
    assert (before.bytes_sent, before.rounds) == (0, 0)
    assert (client.statistics.bytes_sent, client.statistics.rounds) == (80, 1)


def test_a_silent_peer_is_given_up_and_a_closed_one_at_once() -> None:
    client, server = channels(timeout=0.02)
    with pytest.raises(PeerLostError, match=r"within 0\.02 s"):
        server.receive(LABEL, np.uint64, (2, 3))
    with pytest.raises(PeerLostError, match=r"within 0\.02 s"):
        server.exchange(LABEL, EXPECTED)
    client, server = channels(timeout=250)  # so that waiting for it would be noticed
    client.close()
    for _ in range(2):
        with pytest.raises(PeerLostError, match="it has ended"):
            server.receive(LABEL, np.uint64, (2, 3))


class Timed:
    """A transport that notes how long it is to wait. Every message takes four seconds, on a clock of its own."""

    timeout = 60.0

    def __init__(self, frames: Sequence[bytes] = ()) -> None:
        self._frames = list(frames)
        self.timeouts: list[float | None] = []
        self.now = 100.0

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)
        raise PeerLostError("nobody takes it")

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.timeouts.append(timeout)
        self.now += 4
        if not self._frames:
            raise PeerLostError("nothing came")
        return self._frames.pop(0)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def test_a_message_is_waited_for_as_long_as_the_caller_says() -> None:
    peer, _ = channels()
    frames = record(peer)
    for _ in range(2):
        peer.send(LABEL, EXPECTED)
    peer.send_document("doc", {})
    transport = Timed(frames)
    channel = Channel(transport, "client")
    channel.receive(LABEL, np.uint64, (2, 3), 7.0)
    channel.receive(LABEL, np.uint64, (2, 3))
    channel.receive_document("doc", 3.5)
    assert transport.timeouts == [7.0, None, 3.5, None]


def test_a_failed_peer_is_waited_for_no_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    report = header(code=255, shape=(4,)) + b"text"
    for frames, waits, failed in (
        ([DATA] * 9, [10, 6, 2], False),
        ([b"", sealed(report), DATA], [10, 6], True),
        ([], [10], False),
    ):
        transport = Timed(frames)
        monkeypatch.setattr("protocols.channel.time", SimpleNamespace(monotonic=lambda clock=transport: clock.now))
        channel = Channel(transport, "client")
        channel.await_failure(10)
        assert transport.timeouts == waits
        assert channel.peer_failed is failed


def test_an_error_report_does_not_wait_for_a_peer() -> None:
    """Which may be telling the same, and take nothing."""
    transport = Timed()
    Channel(transport, "client").send_error("the disk is full")
    assert transport.timeouts == [None]


def test_tags_tell_labels_apart() -> None:
    assert tag_of("a") == int.from_bytes(bytes.fromhex("ca978112"), "little")  # SHA-256("a")
    assert len({tag_of(f"layer{i}/upload") for i in range(1000)}) == 1000


@pytest.mark.parametrize("error", [ProtocolError("what came"), PeerLostError("who has ended")])
def test_peers_hear_what_a_peer_did(error: Exception) -> None:
    assert reason_for_peers(error) == str(error)


@pytest.mark.parametrize(
    "error",
    [HybridFaceError("x"), ParameterError("a path"), HiddenError("an index"), OSError("a path"), KeyboardInterrupt()],
)
def test_peers_hear_nothing_else(error: BaseException) -> None:
    assert reason_for_peers(error) == UNTOLD
