"""Entries on their way: they arrive as they were, malformed ones are refused; a message takes memory of its size."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from parties.gallery.sessions.entries import EntryList, receive_entries, send_entries
from parties.gallery.store.records import Entry
from parties.transport.queues import local_channels
from protocols.errors import ProtocolError

ENTRIES = [Entry(1, "Ann", 1, 1), Entry(2, "名前", 1, 1), Entry(7, "Ann", 2, 3), Entry(8, 'x"\\\n' * 2500, 1, 2**60)]


def sent(entries: list[Entry]) -> EntryList:
    server, client = local_channels("server", "client", 1)
    send_entries(client, entries)
    return receive_entries(server)


@pytest.mark.parametrize("entries", [[], ENTRIES[:1], ENTRIES])
def test_entries_arrive_as_they_were(entries: list[Entry]) -> None:
    came = sent(entries)
    assert len(came) == len(entries)
    assert list(came) == entries
    assert [came[i] for i in range(-len(entries), 0)] == entries
    assert came[1:3] == entries[1:3]


def test_there_is_no_entry_beyond_the_last() -> None:
    with pytest.raises(IndexError):
        sent(ENTRIES)[len(ENTRIES)]


def said(
    count: Any = 2, size: Any = 3, numbers: Any = ((1, 1, 1), (2, 1, 1)), sizes: Any = (1, 2), text: bytes = b"aBc"
) -> EntryList:
    """Receive what a server says."""
    server, client = local_channels("server", "client", 1)
    client.send_document("entries", {"count": count, "bytes": size})
    client.send("entries/numbers", np.array(numbers, dtype=np.int64).reshape(-1, 3))
    client.send("entries/sizes", np.array(sizes, dtype=np.int64))
    client.send("entries/identities", np.frombuffer(text, dtype=np.uint8))
    return receive_entries(server)


def test_what_a_server_says() -> None:
    assert list(said()) == [Entry(1, "a", 1, 1), Entry(2, "Bc", 1, 1)]


@pytest.mark.parametrize(
    "fields",
    [
        {"count": -1},
        {"count": True},
        {"count": (1 << 24) + 1},
        {"count": 3},
        {"size": 1},
        {"size": 2 * 40_000 + 1},
        {"size": 4},
        {"numbers": ((1, 1, 1), (2, 0, 1))},
        {"numbers": ((1, 1, 1), (-(2**63), 1, 1))},
        {"numbers": ((1, 1, 1),)},
        {"sizes": (0, 3)},
        {"sizes": (4, -1)},
        {"sizes": (1, 1)},
        {"count": 3, "numbers": ((1, 1, 1),) * 3, "sizes": (-2, 1, 4)},
        {"sizes": (2**62, 2**62)},
        {"text": b"a\xff\xfe"},
        {"text": "ä".encode() + b"c", "sizes": (1, 2)},
        {"count": 1, "size": 10_001, "numbers": (1, 1, 1), "sizes": (10_001,), "text": b"x" * 10_001},
    ],
    ids=str,
)
def test_malformed_entries_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        said(**fields)


def test_a_message_takes_the_memory_of_its_size() -> None:
    """Objects of all entries would take some ten times as much: who sends 10 MB must not take 100."""
    count = 50_000
    server, client = local_channels("server", "client", 1)
    send_entries(client, [Entry(i + 1, f"{i:06}", 1, 1) for i in range(count)])
    size = client.statistics.bytes_sent
    tracemalloc.start()
    entries = receive_entries(server)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == count
    assert peak < 2.5 * size
