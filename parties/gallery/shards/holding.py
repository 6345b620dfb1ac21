"""Hold the index of a private gallery on both sides for a search, or on neither: both learn which.

The client takes its locks and says whether its index is as it was opened; the server does the same, and answers. What
the two tell each other is that an index has changed, or is held by another session: no content.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from parties.gallery.errors import IndexChangedError, RefusalError, StoreError
from parties.gallery.shards.group import ShardGroup
from protocols.channel import CLIENT, Channel, printable
from protocols.document import boolean, optional, text
from protocols.errors import ProtocolError, reason_for_peers

__all__ = ["held_by_both"]

_MAX_REASON = 1000


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
    with channel.receive_document("held") as answer:
        refused, changed = answer.take("refused", optional(text(_MAX_REASON))), answer.take("changed", boolean)
    if refused is None and changed:
        raise ProtocolError("expected an index that has changed not to be held, got one that is")
    return None if refused is None else (IndexChangedError if changed else RefusalError)(printable(refused, 200))
