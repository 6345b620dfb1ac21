"""Send and receive entries of a gallery: arrays of numbers, and one block of text.

Received entries are as compact in memory as in the message. An entry becomes an object only when code reads it. So a
message of many entries takes no more memory than it announced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from parties.gallery.store.records import MAX_IDENTITY, Entry
from protocols.channel import Channel
from protocols.document import integer
from protocols.errors import ProtocolError

__all__ = ["MAX_ENTRIES", "EntryList", "receive_entries", "send_entries"]

MAX_ENTRIES = 1 << 24
"""Largest number of entries in one message."""

_MAX_TEXT, _MAX_BYTES = 1 << 30, 4 * MAX_IDENTITY


@dataclass(frozen=True)
class EntryList(Sequence[Entry]):
    """Entries that were received.

    Args:
        numbers: int64 (n, 3), row, photo and generation of each entry.
        ends: int64 (n + 1,), 0, then the end of each identity in the text.
        text: the identities, one after another, in UTF-8.
    """

    numbers: NDArray[np.int64]
    ends: NDArray[np.int64]
    text: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row, photo, generation = self.numbers[place].tolist()
        return Entry(row, self._identity(place % len(self)), photo, generation)

    def check(self) -> None:
        """Check all entries.

        Raises:
            ProtocolError: a number is below 1, or an identity is not text of 1 to 10,000 characters.
        """
        if np.any(self.numbers < 1):
            raise ProtocolError("expected rows, photos and generations from 1, got a smaller number")
        try:
            fits = all(0 < len(self._identity(place)) <= MAX_IDENTITY for place in range(len(self)))
        except UnicodeDecodeError:
            fits = False
        if not fits:
            raise ProtocolError(f"expected identities of 1 to {MAX_IDENTITY} characters in UTF-8, got others")

    def _identity(self, place: int) -> str:
        return self.text[self.ends[place] : self.ends[place + 1]].decode()


def send_entries(channel: Channel, entries: Sequence[Entry]) -> None:
    """Send entries."""
    identities = [entry.identity.encode() for entry in entries]
    text = b"".join(identities)
    channel.send_document("entries", {"count": len(entries), "bytes": len(text)})
    numbers = [(entry.row, entry.photo, entry.generation) for entry in entries]
    channel.send("entries/numbers", np.array(numbers, dtype=np.int64).reshape(-1, 3))
    channel.send("entries/sizes", np.array([len(one) for one in identities], dtype=np.int64))
    channel.send("entries/identities", np.frombuffer(text, dtype=np.uint8))


def receive_entries(channel: Channel) -> EntryList:
    """Receive entries.

    Raises:
        ProtocolError: they are malformed.
    """
    with channel.receive_document("entries") as document:
        count = document.take("count", integer(0, MAX_ENTRIES))
        size = document.take("bytes", integer(count, min(_MAX_TEXT, count * _MAX_BYTES)))
    numbers = channel.receive("entries/numbers", np.int64, (count, 3))
    sizes = channel.receive("entries/sizes", np.int64, (count,))
    text = channel.receive("entries/identities", np.uint8, (size,)).tobytes()
    if np.any((sizes < 1) | (sizes > _MAX_BYTES)) or sizes.sum() != size:
        raise ProtocolError(f"expected the sizes of {count} identities in {size} bytes, got others")
    entries = EntryList(numbers, np.concatenate([[0], np.cumsum(sizes)]), text)
    entries.check()
    return entries
