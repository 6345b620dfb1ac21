"""Messages of a channel: every accident on the way is noticed."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parties.transport.queues import local_channels
from protocols.channel import Channel, send_to_all
from protocols.errors import PeerLostError, ProtocolError
from protocols.frame import Direction
from support.frames import outcome, record, sealed

ARRAYS = [
    np.arange(6, dtype=np.uint64).reshape(2, 3),
    np.arange(6, dtype=np.uint64).reshape(2, 3) + np.uint64(1),
    np.arange(6, dtype=np.uint64).reshape(2, 3),
    np.zeros(0, dtype=np.uint8),
    np.linspace(0, 1, 4),
]
"""Sent one after another under one label: only the number and the checksum tell the first three apart."""

HEADER = 16


def sent(arrays: list[Any]) -> list[bytes]:
    client, _ = local_channels("client", "server")
    frames = record(client)
    for array in arrays:
        client.send("step", array)
    return frames


def received(frames: list[bytes]) -> list[Any]:
    """Return what a server takes for the arrays, from these messages."""
    client, server = local_channels("client", "server", 0.01)
    for frame in frames:
        client.transport.send(frame)
    return [server.receive("step", array.dtype, array.shape) for array in ARRAYS]


FRAMES = sent(ARRAYS)


def test_what_was_sent_is_taken() -> None:
    for came, array in zip(received(FRAMES), ARRAYS, strict=True):
        np.testing.assert_array_equal(came, array)


def test_numbers_and_checksums_are_those_of_the_format() -> None:
    previous = 0
    for number, frame in enumerate(FRAMES):
        assert frame == sealed(frame, number, previous)
        (previous,) = struct.unpack_from("<I", frame, 12)


@pytest.mark.parametrize("message", range(len(FRAMES)))
def test_every_flipped_bit_is_noticed(message: int) -> None:
    for position in range(len(FRAMES[message])):
        for bit in range(8):
            damaged = bytearray(FRAMES[message])
            damaged[position] ^= 1 << bit
            came, error = outcome(received, [*FRAMES[:message], bytes(damaged), *FRAMES[message + 1 :]])
            assert came is None, (position, bit)
            assert error.startswith(("step from client: ", "expected at most ")), error


def test_flipped_bits_of_a_long_message_are_noticed() -> None:
    array = np.random.default_rng(3).integers(0, 2**64, 1 << 16, dtype=np.uint64)
    frame = Direction().frame("step", array)
    expected = array.dtype, array.shape
    assert (Direction().array_of(frame, "step", "client", expected) == array).all()
    for position in np.random.default_rng(4).integers(HEADER, len(frame), 60).tolist():
        damaged = bytearray(frame)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(ProtocolError):
            Direction().array_of(bytes(damaged), "step", "client", expected)


LONG_BYTES = 1 << 24


@pytest.mark.parametrize("block", [8, 64, 509 * 8, 4096, 8 * 512 * 3])
@pytest.mark.parametrize("distance", [1, 512, 509, 512 * 509])
def test_blocks_of_a_long_message_that_change_places_are_noticed(block: int, distance: int) -> None:
    """At any distance: a sum of rows would miss blocks that lie a multiple of its width apart."""
    array = np.random.default_rng(block).integers(0, 256, LONG_BYTES, dtype=np.uint8)
    frame = bytearray(Direction().frame("step", array))
    first = len(frame) - LONG_BYTES + 64
    second = first + max(block, 8 * distance)
    one, other = frame[first : first + block], frame[second : second + block]
    frame[first : first + block], frame[second : second + block] = other, one
    with pytest.raises(ProtocolError, match="as it was sent, got one with another checksum"):
        Direction().array_of(frame, "step", "client", (array.dtype, array.shape))


@pytest.mark.parametrize("block", [8, 4096, LONG_BYTES // 2])
def test_blocks_of_a_long_message_that_come_twice_or_as_zeros_are_noticed(block: int) -> None:
    array = np.random.default_rng(block).integers(0, 256, LONG_BYTES, dtype=np.uint8)
    frame = Direction().frame("step", array)
    head, data = frame[:-LONG_BYTES], frame[-LONG_BYTES:]
    for damaged in (data[:block] * 2 + data[2 * block :], bytes(block) + data[block:]):
        with pytest.raises(ProtocolError, match="as it was sent, got one with another checksum"):
            Direction().array_of(head + damaged, "step", "client", (array.dtype, array.shape))


ACCIDENTS: dict[str, Callable[[list[bytes], int], list[bytes]]] = {
    "lost": lambda frames, at: frames[:at] + frames[at + 1 :],
    "repeated": lambda frames, at: frames[: at + 1] + frames[at:],
    "swapped with the next": lambda frames, at: frames[:at] + frames[at : at + 2][::-1] + frames[at + 2 :],
    "the one before instead": lambda frames, at: [*frames[:at], frames[at - 1], *frames[at + 1 :]],
    "a byte short": lambda frames, at: [*frames[:at], frames[at][:-1], *frames[at + 1 :]],
    "a byte longer": lambda frames, at: [*frames[:at], frames[at] + b"\x00", *frames[at + 1 :]],
    "half": lambda frames, at: [*frames[:at], frames[at][: len(frames[at]) // 2], *frames[at + 1 :]],
    "header alone": lambda frames, at: [*frames[:at], frames[at][:HEADER], *frames[at + 1 :]],
    "data of zeros": lambda frames, at: (
        [*frames[:at], frames[at][: HEADER + 8] + bytes(len(frames[at]) - HEADER - 8), *frames[at + 1 :]]
    ),
}


@pytest.mark.parametrize("at", range(len(FRAMES)))
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_every_accident_is_noticed(accident: str, at: int) -> None:
    frames = ACCIDENTS[accident](FRAMES, at)
    if frames[: len(FRAMES)] == FRAMES:  # the last one, repeated or swapped with nothing: nobody reads on
        received(frames)
        return
    with pytest.raises((ProtocolError, PeerLostError)):
        received(frames)


def test_a_message_of_another_session_is_noticed() -> None:
    """Also with the number that fits: what went before was another's."""
    other = sent([ARRAYS[1], *ARRAYS[1:]])
    for number in range(1, len(FRAMES)):
        with pytest.raises(ProtocolError, match="as it was sent, got one with another checksum"):
            received(FRAMES[:number] + other[number:])


def test_a_message_that_comes_back_is_noticed() -> None:
    client, server = local_channels("client", "server", 1)
    frames = record(client)
    server.send("step", ARRAYS[1])
    client.receive("step", np.uint64, (2, 3))
    client.send("step", ARRAYS[0])
    client.send("step", ARRAYS[0])
    for came, match in ((frames[0], "expected message 1, got 0"), (frames[1], "another checksum")):
        server.transport.send(came)
        with pytest.raises(ProtocolError, match=match):
            client.receive("step", np.uint64, (2, 3))


def test_numbers_begin_again_after_the_last() -> None:
    client, server = local_channels("client", "server", 1)
    client._sent.number = server._received.number = (1 << 24) - 1
    for array in ARRAYS[:2]:
        client.send("step", array)
        assert (server.receive("step", np.uint64, (2, 3)) == array).all()
    assert client._sent.number == 1


def test_an_array_for_several_peers_fits_each_ones_messages() -> None:
    pairs = [local_channels(f"peer {number}", "server", 1) for number in range(3)]
    ends = [Channel(end.transport, "server") for end, _ in pairs]
    for number, end in enumerate(ends):
        for _ in range(number):
            end.send("before", ARRAYS[0])
    send_to_all(ends, "step", ARRAYS[1])
    for number, (_, peer) in enumerate(pairs):
        for _ in range(number):
            peer.receive("before", np.uint64, (2, 3))
        assert (peer.receive("step", np.uint64, (2, 3)) == ARRAYS[1]).all()


@pytest.mark.parametrize("lost", [False, True])
def test_an_error_report_is_heard_also_after_a_loss(lost: bool) -> None:
    client, server = local_channels("client", "server", 1)
    if lost:
        client._sent.frame("step", ARRAYS[0])
    client.send_error("the disk is full")
    with pytest.raises(PeerLostError, match="client ended: the disk is full"):
        server.receive("step", np.uint64, (2, 3))
    assert server.peer_failed


def test_a_damaged_error_report_is_no_report() -> None:
    client, server = local_channels("client", "server", 1)
    client.transport.send(Direction.error_report("the disk is full")[:-1] + b"?")
    with pytest.raises(ProtocolError, match="another checksum"):
        server.receive("step", np.uint64, (2, 3))
    assert not server.peer_failed
