"""Hold the index of a private gallery for a search, on both sides or on neither.

The client takes its locks, and tells the server whether its index is as it was opened. The server does the same and
answers. So both learn whether both hold the index. They tell each other only that an index has changed, or that another
session holds it: no content.
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
        rank: of this party.
        channel: to the other party.

    Raises:
        IndexChangedError: on both sides, if one side's index has changed.
        RefusalError: on both sides, if another session holds one side's index for too long.
        StoreError: this side's index cannot be used. The other side gets a RefusalError.
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
        raise ProtocolError("expected a held index not to have changed, got one that has")
    return None if refused is None else (IndexChangedError if changed else RefusalError)(printable(refused, 200))
