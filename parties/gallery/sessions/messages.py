"""Messages of a gallery's session: entries, as arrays and one block of text; what has changed of them; and what a
server answers, checked before the client uses it.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import StoreError
from parties.gallery.index.directory import Directory
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.index.search import CHUNK_ROWS
from parties.gallery.shards.shard import build_of
from parties.gallery.store.records import MAX_IDENTITY, Entry, identity_bytes
from parties.gallery.store.store import GalleryStore
from protocols.channel import Channel, printable
from protocols.errors import ParameterError, ProtocolError

__all__ = [
    "builds_of",
    "entries_of",
    "follow_changes",
    "identifier",
    "number",
    "receive_entries",
    "refreshed",
    "send_changes",
    "send_entries",
]

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
    try:
        if not valid or not all(identity_bytes(name) for name in identities):
            raise ParameterError("another number of them")
    except ParameterError as error:
        raise ProtocolError(f"expected {count} identities of 1 to {MAX_IDENTITY} characters, got others") from error
    if np.any(numbers < 1):
        raise ProtocolError("expected rows, photos and generations from 1, got a smaller number")
    return [
        Entry(int(row), name, int(photo), int(g)) for name, (row, photo, g) in zip(identities, numbers, strict=True)
    ]


def send_changes(channel: Channel, store: GalleryStore, known: int, current: Directory) -> Directory:
    """Tell the client what has changed since a change that it knows, and if that does not suffice, everything.

    Args:
        known: the number of that change, in the client's words.
        current: who was enrolled when this side looked last.

    Returns:
        Who is enrolled now, on both sides.

    Raises:
        ProtocolError: the client does not arrive at the same.
    """
    current = refreshed(store, current)
    for since in (known, 0):
        removed, added = _changes(store, since, current)
        state = {"change": current.change, "generation": current.generation, "digest": current.digest}
        channel.send_document("changes", {**state, "removed": len(removed), "all": since == 0})
        channel.send("changes/removed", removed)
        send_entries(channel, added)
        if channel.receive_document("followed").get("complete") is True:
            return current
    raise ProtocolError("expected the client to know who is enrolled, but its digest differs")


def follow_changes(channel: Channel, known: Directory) -> Directory:
    """Receive what `send_changes` sends; return who is enrolled now.

    Raises:
        ProtocolError: a message is malformed, or what it says does not add up.
    """
    for _ in range(2):
        document = channel.receive_document("changes")
        match document:
            case {"change": int(change), "generation": int(generation), "removed": int(count), "all": bool(everything)}:
                pass
            case _:
                raise ProtocolError(f"expected what has changed, got {printable(document)}")
        if not (0 <= change < 2**63 and 0 < generation < 2**63 and 0 <= count <= _MAX_ENTRIES):
            raise ProtocolError(f"expected numbers of changes, got {printable(document)}")
        removed = channel.receive("changes/removed", np.int64, (count,))
        added = receive_entries(channel)
        result = (Directory() if everything else known).updated(change, generation, removed, added)
        complete = len(np.unique(result.rows)) == len(result.rows) and result.digest == document.get("digest")
        channel.send_document("followed", {"complete": complete})
        if complete:
            return result
    raise ProtocolError("expected who is enrolled, got what does not fit its digest")


def refreshed(store: GalleryStore, current: Directory) -> Directory:
    """Return who is enrolled now, on the server's side, from who was when it looked last."""
    try:
        change, generation, removed, added = store.listing(current.change)
    except StoreError:  # of another history
        current = Directory()
        change, generation, removed, added = store.listing(0)
    return current.updated(change, generation, removed, added)


def _changes(store: GalleryStore, since: int, current: Directory) -> tuple[NDArray[np.int64], list[Entry]]:
    """Return which rows left the directory since a change, and the entries that came."""
    try:
        changes = store.changes_since(since)
    except StoreError:  # of another history: the digest will tell
        return np.empty(0, dtype=np.int64), []
    added = changes.added[np.isin(changes.added, current.rows)]  # not what has changed a moment ago
    return changes.removed[~np.isin(changes.removed, current.rows)], current.entries(added)


def number(value: Any, least: int = 0) -> int:
    """Return a number that a store can hold.

    Raises:
        ProtocolError: it is none, or smaller than the least.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise ProtocolError(f"expected a number, got {printable(value)}")
    return value


def identifier(text: str) -> bytes:
    """Return a scope or a lineage.

    Raises:
        ProtocolError: other than 16 bytes.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise ProtocolError(f"expected 16 bytes in hexadecimal, got {printable(text)}")
    return value


def builds_of(document: dict[str, Any], states: Sequence[tuple[bytes, str]], draws: Sequence[bytes]) -> list[bytes]:
    """Return the builds that the server names: each the client's own, or a new one that both have drawn.

    Raises:
        ProtocolError: one is neither; it might be an old one, whose rows of B have hidden templates.
    """
    builds, theirs = (_hexadecimal(document.get(name), len(draws)) for name in ("builds", "draws"))
    for build, (known, _), own, other in zip(builds, states, draws, theirs, strict=True):
        if build not in (known, build_of(own, other)):
            raise ProtocolError("expected a build's number that both sides have drawn, got another one")
    return builds


def _hexadecimal(values: Any, count: int) -> list[bytes]:
    try:
        parsed = [bytes.fromhex(one) for one in values]
    except (TypeError, ValueError):
        parsed = []
    if len(parsed) != count or any(len(one) != BUILD_BYTES for one in parsed):
        raise ProtocolError(f"expected numbers of the builds of {count} shards, got {printable(values)}")
    return parsed


def entries_of(identity: str, photos: Any) -> list[Entry]:
    """Return the entries of an identity's photos, each told as its number and its key's generation.

    Raises:
        ProtocolError: there are none, or too many, or they are no such numbers.
    """
    if not isinstance(photos, list) or not 0 < len(photos) <= CHUNK_ROWS:
        raise ProtocolError(f"expected photos of an identity, got {printable(photos)}")
    entries = []
    for item in photos:
        match item:
            case [photo, generation]:
                entries.append(Entry(0, identity, number(photo, 1), number(generation, 1)))
            case _:
                raise ProtocolError(f"expected a photo's numbers, got {printable(item)}")
    return entries
