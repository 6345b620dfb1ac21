"""A WebSocket connection's framing, opening and end, over a pair of sockets."""

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.transport.websocket import PATH, PIECE_BYTES, WebSocket
from protocols.errors import ProtocolError
from support.websockets_in_process import PlainSocket, opened_pair

REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def taken(end: WebSocket, other: WebSocket, count: int, largest: int | None = None) -> list[tuple[bool, bytes]]:
    """Return the messages that an end receives."""
    for _ in range(10_000):
        other.step()
        end.step(largest)
        if len(end.messages) >= count or end.ended:
            break
    return [(one.is_text, bytes(one.payload)) for one in end.messages]


def server_that_hears(*chunks: bytes) -> tuple[WebSocket, socket.socket]:
    """Return a server's end that has got these bytes from a raw socket, and the socket."""
    raw, there = socket.socketpair()
    server = WebSocket(PlainSocket.over(there))
    for chunk in chunks:
        raw.sendall(chunk)
        server.step()
    return server, raw


@pytest.mark.parametrize(
    "size", [0, 1, 125, 126, 65_535, 65_536, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 << 20]
)
@pytest.mark.parametrize("is_text", [False, True])
def test_messages_arrive_as_they_were_sent_in_both_directions(size: int, is_text: bool) -> None:
    payload = (bytes(range(97, 123)) * (size // 26 + 1))[:size]
    client, server = opened_pair()
    client.send(payload, is_text)
    server.send(payload, is_text)
    assert taken(server, client, 1) == [(is_text, payload)]
    assert taken(client, server, 1) == [(is_text, payload)]


def test_no_frame_is_larger_than_a_piece() -> None:
    client, server = opened_pair()
    server.send(bytes(3 * PIECE_BYTES + 5))
    sizes = [len(data) for data in server._out]
    assert max(sizes) <= PIECE_BYTES + 14
    assert sum(sizes) > 3 * PIECE_BYTES
    assert taken(client, server, 1)[0][1] == bytes(3 * PIECE_BYTES + 5)


def test_a_message_above_the_limit_is_refused_while_it_comes() -> None:
    client, server = opened_pair()
    client.send(bytes(8 * PIECE_BYTES))
    with pytest.raises(ProtocolError, match=f"at most {2 * PIECE_BYTES} bytes"):
        taken(server, client, 1, 2 * PIECE_BYTES)
    assert server.buffered <= 3 * PIECE_BYTES


@pytest.mark.parametrize("announced", [PIECE_BYTES + 1, 2 << 30, (1 << 63) - 1])
def test_a_frame_that_announces_too_much_ends_the_connection_at_once(announced: int) -> None:
    server, raw = server_that_hears(REQUEST, b"\x82\xff" + struct.pack("!Q", announced) + b"abcd")
    assert server.ended == f"a frame of more than {PIECE_BYTES} bytes came"
    assert server.buffered == 0
    raw.close()


@pytest.mark.parametrize(
    "chunk",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST.replace(PATH.encode(), b"/other"), b"\x16\x03\x01 no HTTP\r\n\r\n"],
)
def test_what_is_no_websocket_client_is_refused(chunk: bytes) -> None:
    server, raw = server_that_hears(chunk)
    assert server.ended == "the peer is no hybridface client"
    assert not server.is_open
    raw.close()


def test_a_server_that_is_none_of_ours_is_refused() -> None:
    raw, there = socket.socketpair()
    client = WebSocket(PlainSocket.over(there), "server:1")
    client.step(0)
    raw.recv(10_000)
    raw.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    client.step(0)
    assert client.ended == "the peer is no hybridface server"
    raw.close()


def test_a_lost_connection_ends_the_other_end_after_what_had_come() -> None:
    client, server = opened_pair()
    client.send(b"last")
    client.write()
    client.close()
    assert taken(server, client, 2) == [(False, b"last")]
    assert server.ended == "the connection was closed"


def test_an_orderly_end_is_told() -> None:
    client, server = opened_pair()
    client.send(b"last")
    client.begin_close()
    assert taken(server, client, 2) == [(False, b"last")]
    assert server.ended == "the peer has closed the connection"
    client.step()
    assert client.ended


def test_a_ping_is_answered_and_is_no_message() -> None:
    client, server = opened_pair()
    before = client.heard
    client.ping()
    assert taken(server, client, 1) == []
    client.step()
    assert client.heard > before


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=6), st.booleans())
def test_random_bytes_raise_nothing(chunks: list[bytes], after_the_request: bool) -> None:
    server, raw = server_that_hears(*([REQUEST] if after_the_request else []), *chunks)
    raw.close()
    server.step()
    assert server.ended


def test_nothing_waits_to_be_sent_to_a_peer_that_is_gone() -> None:
    client, server = opened_pair()
    client.begin_close()
    client.write()
    client.close()
    server.step()  # reads the end, and cannot answer it
    assert server.ended
    assert not server.is_writing
    assert server.events == 0


def test_after_the_end_only_what_is_left_to_send_is_waited_for() -> None:
    server, raw = server_that_hears(REQUEST.replace(PATH.encode(), b"/other"))
    server.step()
    with raw:
        assert raw.recv(1 << 14).startswith(b"HTTP/1.1 404")
    server.step()
    assert (bool(server.ended), server.events) == (True, 0)
