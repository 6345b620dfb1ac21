"""Messages of a gallery's session: what has changed of its entries, and the builds of its indexes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import StoreError
from parties.gallery.index.directory import Directory
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.sessions.entries import MAX_ENTRIES, receive_entries, send_entries
from parties.gallery.shards.shard import build_of
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.channel import Channel
from protocols.document import Document, boolean, hexadecimal, integer, list_of
from protocols.errors import ProtocolError

__all__ = [
    "builds_of",
    "follow_changes",
    "refreshed",
    "send_changes",
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
        with channel.receive_document("followed") as answer:
            complete = answer.take("complete", boolean)
        if complete:
            return current
    raise ProtocolError("expected the client to know who is enrolled, but its digest differs")


def follow_changes(channel: Channel, known: Directory) -> Directory:
    """Receive what `send_changes` sends; return who is enrolled now.

    Raises:
        ProtocolError: a message is malformed, or what it says does not add up.
    """
    for _ in range(2):
        with channel.receive_document("changes") as document:
            change, generation = document.take("change", integer()), document.take("generation", integer(1))
            count, everything = document.take("removed", integer(0, MAX_ENTRIES)), document.take("all", boolean)
            digest = document.take("digest", hexadecimal(32)).hex()
        removed = channel.receive("changes/removed", np.int64, (count,))
        added = receive_entries(channel)
        result = (Directory() if everything else known).updated(change, generation, removed, added)
        complete = len(np.unique(result.rows)) == len(result.rows) and result.digest == digest
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


def builds_of(document: Document, states: Sequence[tuple[bytes, str]], draws: Sequence[bytes]) -> list[bytes]:
    """Return the builds that the server names: each the client's own, or a new one that both have drawn.

    Raises:
        ProtocolError: one is neither; it might be an old one, whose rows of B have hidden templates.
    """
    each = list_of(hexadecimal(BUILD_BYTES), len(draws), len(draws))
    with document:
        builds, theirs = (document.take(name, each) for name in ("builds", "draws"))
    for build, (known, _), own, other in zip(builds, states, draws, theirs, strict=True):
        if build not in (known, build_of(own, other)):
            raise ProtocolError("expected a build's number that both sides have drawn, got another one")
    return builds
