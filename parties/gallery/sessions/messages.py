"""Send and receive messages of a gallery's session: changes of its entries, and builds of its indexes."""

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
    """Send the client all changes after one that it knows. If its directory then differs, send everything.

    Args:
        known: number of that change, as the client claims it.
        current: the server's directory when it looked last.

    Returns:
        The directory of who is enrolled now, equal on both sides.

    Raises:
        ProtocolError: the client's directory differs even then.
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
    """Receive the messages of `send_changes`; return the directory of who is enrolled now.

    Raises:
        ProtocolError: a message is malformed, or the directory does not fit its digest.
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
    raise ProtocolError("expected a directory that fits its digest, got another one")


def refreshed(store: GalleryStore, current: Directory) -> Directory:
    """Return the server's directory of who is enrolled now, from the directory when it looked last."""
    try:
        change, generation, removed, added = store.listing(current.change)
    except StoreError:  # of another history
        current = Directory()
        change, generation, removed, added = store.listing(0)
    return current.updated(change, generation, removed, added)


def _changes(store: GalleryStore, since: int, current: Directory) -> tuple[NDArray[np.int64], list[Entry]]:
    """Return the rows that left the directory after a change, and the entries that came."""
    try:
        changes = store.changes_since(since)
    except StoreError:  # of another history: the digests will differ
        return np.empty(0, dtype=np.int64), []
    added = changes.added[np.isin(changes.added, current.rows)]  # without rows that were added a moment ago
    return changes.removed[~np.isin(changes.removed, current.rows)], current.entries(added)


def builds_of(document: Document, states: Sequence[tuple[bytes, str]], draws: Sequence[bytes]) -> list[bytes]:
    """Return the builds that the server names. Each is the client's own, or a new one that both have drawn.

    Raises:
        ProtocolError: a build is neither. It might be an old one, whose rows of B have hidden templates before.
    """
    each = list_of(hexadecimal(BUILD_BYTES), len(draws), len(draws))
    with document:
        builds, theirs = (document.take(name, each) for name in ("builds", "draws"))
    for build, (known, _), own, other in zip(builds, states, draws, theirs, strict=True):
        if build not in (known, build_of(own, other)):
            raise ProtocolError("expected a build's number that both sides have drawn, got another one")
    return builds
