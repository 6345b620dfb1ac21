"""Messages of a gallery's session: entries, as arrays and one block of text."""

import json
from collections.abc import Sequence

import numpy as np

from parties.gallery.records import MAX_IDENTITY, Entry
from protocols.channel import Channel
from protocols.errors import ProtocolError

__all__ = ["receive_entries", "send_entries"]

_MAX_ENTRIES, _MAX_TEXT = 1 << 24, 1 << 30


def send_entries(channel: Channel, entries: Sequence[Entry]) -> None:
    """Send entries; identities as a JSON list in UTF-8."""
    text = json.dumps([entry.identity for entry in entries], ensure_ascii=False).encode()
    channel.send_document("entries", {"count": len(entries), "bytes": len(text)})
    numbers = [(entry.row, entry.photo, entry.generation) for entry in entries]
    channel.send("entries/numbers", np.array(numbers, dtype=np.int64).reshape(-1, 3))
    channel.send("entries/identities", np.frombuffer(text, dtype=np.uint8))


def receive_entries(channel: Channel) -> list[Entry]:
    """Receive entries.

    Raises:
        ProtocolError: they are malformed.
    """
    document = channel.receive_document("entries")
    match document:
        case {"count": int(count), "bytes": int(size)} if 0 <= count <= _MAX_ENTRIES and 0 < size <= _MAX_TEXT:
            pass
        case _:
            raise ProtocolError("expected how many entries come, got something else")
    numbers = channel.receive("entries/numbers", np.int64, (count, 3))
    text = channel.receive("entries/identities", np.uint8, (size,))
    try:
        identities = json.loads(text.tobytes())
    except (ValueError, RecursionError) as error:
        raise ProtocolError("expected identities as JSON, got something else") from error
    valid = isinstance(identities, list) and len(identities) == count
    if not valid or not all(isinstance(name, str) and 0 < len(name) <= MAX_IDENTITY for name in identities):
        raise ProtocolError(f"expected {count} identities of 1 to {MAX_IDENTITY} characters, got something else")
    if np.any(numbers < 1):
        raise ProtocolError("expected rows, photos and generations from 1, got a smaller number")
    return [
        Entry(int(row), name, int(photo), int(g)) for name, (row, photo, g) in zip(identities, numbers, strict=True)
    ]
