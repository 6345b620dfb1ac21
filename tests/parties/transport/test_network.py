"""The transport between two organisations, over a pair of sockets: waits, both directions at once, and lost peers."""

import threading
import time

import pytest

from parties.transport import network
from parties.transport.network import NetworkTransport
from parties.transport.websocket import PIECE_BYTES
from protocols.errors import PeerLostError, ProtocolError
from support.websockets_in_process import at_once, opened_pair, transports

BIG = 24 << 20
"""Bytes that no socket holds: the rest must wait for the peer."""


def test_messages_arrive_in_order() -> None:
    client, server = transports()
    for number in range(100):
        client.send(bytes([number]) * number)
    assert [bytes(server.receive(100)) for _ in range(100)] == [bytes([number]) * number for number in range(100)]
    client.send_text("words")
    assert server.receive_text() == "words"
    at_once(client.close, server.close)


def test_a_send_does_not_wait_for_the_peer() -> None:
    """Both parties may send at once, and then receive."""
    client, server = transports()
    client.send(bytes(BIG))
    server.send(b"\1" * BIG)
    assert bytes(server.receive(BIG)) == bytes(BIG)
    assert bytes(client.receive(BIG)) == b"\1" * BIG
    there, back = at_once(lambda: client.exchange(b"a" * BIG, BIG), lambda: server.exchange(b"b" * BIG, BIG))
    assert (bytes(there), bytes(back)) == (b"b" * BIG, b"a" * BIG)  # type: ignore[arg-type]
    at_once(client.close, server.close)


def test_a_close_delivers_what_was_sent() -> None:
    client, server = transports()
    client.send(bytes(BIG))
    threading.Thread(target=client.close).start()
    assert len(server.receive(BIG)) == BIG
    with pytest.raises(PeerLostError, match="client"):
        server.receive(1)
    server.close()


def test_a_send_with_a_timeout_waits_until_the_peer_takes_it() -> None:
    client, server = transports()
    with pytest.raises(PeerLostError, match=r"server to take a message within 0\.2 s"):
        client.send(bytes(BIG), 0.2)
    taken = threading.Thread(target=lambda: server.receive(BIG))
    taken.start()
    client.send(b"", 10.0)
    taken.join(10.0)
    at_once(client.close, server.close)


@pytest.mark.parametrize("size", [101, PIECE_BYTES * 3])
def test_a_message_above_the_limit_is_refused(size: int) -> None:
    client, server = transports()
    client.send(bytes(size))
    with pytest.raises(ProtocolError, match="client: expected at most 100 bytes|at most 100 bytes from client"):
        server.receive(100)
    at_once(client.close, server.close)


def test_a_message_that_comes_with_a_larger_one_is_taken() -> None:
    client, server = transports()
    for size in (10, 3 * PIECE_BYTES, 20):
        client.send(bytes(size))
    assert [len(server.receive(most)) for most in (10, 3 * PIECE_BYTES, 20)] == [10, 3 * PIECE_BYTES, 20]
    at_once(client.close, server.close)


def test_a_message_of_the_other_kind_is_refused() -> None:
    client, server = transports()
    client.send_text("{}")
    with pytest.raises(ProtocolError, match="of another kind"):
        server.receive(100)
    client.send(b"\xff")
    with pytest.raises(ProtocolError, match="of another kind"):
        server.receive_text()
    at_once(client.close, server.close)


def test_every_wait_ends() -> None:
    client, server = transports()
    with pytest.raises(PeerLostError, match=r"expected a message from server within 0\.05 s, got none"):
        client.receive(1, 0.05)
    at_once(client.close, server.close)


def test_no_call_waits_longer_than_the_longest_wait() -> None:
    client, server = opened_pair()
    bounded = NetworkTransport(client, "server", 300.0, longest=0.05)
    with pytest.raises(PeerLostError, match=r"within 0\.05 s"):
        bounded.receive(1, 3600.0)
    bounded.close()
    server.close()


def test_a_peer_that_has_gone_is_noticed_at_once() -> None:
    client, server = transports()
    server.close()
    with pytest.raises(PeerLostError, match="expected a message from server, but the .*closed"):
        client.receive(1)
    with pytest.raises(PeerLostError):
        client.send(b"x")
    client.close()


def test_a_peer_that_gives_no_sign_of_life_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SILENCE_SECONDS", 0.3)
    silent, server = opened_pair()
    waiting = NetworkTransport(server, "client", 60.0)
    with pytest.raises(PeerLostError, match=r"heard nothing from client for 0\.3 s: the link is down"):
        waiting.receive(1)
    waiting.close()
    silent.close()


def test_signs_of_life_keep_a_quiet_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parties compute for longer than the longest silence, and neither reads."""
    monkeypatch.setattr(network, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(network, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(network, "_TICK_SECONDS", 0.1)
    client, server = transports()
    time.sleep(1.3)
    client.send(b"still here")
    assert bytes(server.receive(100)) == b"still here"
    at_once(client.close, server.close)


def test_what_is_not_taken_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends more than it may fills the socket, not the memory."""
    monkeypatch.setattr(network, "_TICK_SECONDS", 0.01)
    client, server = transports()
    for _ in range(40):
        client.send(bytes(PIECE_BYTES))
    time.sleep(0.5)
    assert server._websocket.buffered <= network._READ_AHEAD_BYTES + PIECE_BYTES
    for _ in range(40):
        server.receive(PIECE_BYTES)
    at_once(client.close, server.close)
