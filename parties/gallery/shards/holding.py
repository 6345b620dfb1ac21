"""Hold the index of a private gallery on both sides for a search, or on neither: both learn which.

The client takes its locks and says whether its index is as it was opened; the server does the same, and answers. What
the two tell each other is that an index has changed, or is held by another session: no content.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from parties.gallery.errors import IndexChangedError, RefusalError, StoreError
from parties.gallery.shards.group import ShardGroup
from protocols.channel import CLIENT, Channel, printable
from protocols.errors import ProtocolError, reason_for_peers

__all__ = ["held_by_both"]


@contextmanager
def held_by_both(rank: int, channel: Channel, shards: ShardGroup) -> Iterator[None]:
    """Hold the index with other readers, on both sides.

    Args:
        rank: of this party. channel: to the other.

    Raises:
        IndexChangedError: on both sides, if one's index has changed. RefusalError: on both sides, if one's is held by
            another session for too long. StoreError: this side's cannot be used; a RefusalError on the other side.
    """
    with ExitStack() as stack:
        theirs = None if rank == CLIENT else _receive(channel)
        own: StoreError | None = None
        try:
            stack.enter_context(shards.reading())
        except StoreError as reason:
            own = reason
        channel.send_document(
            "held", {"refused": own and reason_for_peers(own), "changed": isinstance(own, IndexChangedError)}
        )
        if rank == CLIENT:
            theirs = _receive(channel)
        if error := own or theirs:
            raise error
        yield


def _receive(channel: Channel) -> RefusalError | None:
    match channel.receive_document("held"):
        case {"refused": None, "changed": False}:
            return None
        case {"refused": str(reason), "changed": bool(changed)}:
            return (IndexChangedError if changed else RefusalError)(printable(reason, 200))
        case document:
            raise ProtocolError(f"expected whether an index is held, got {printable(document)}")
