"""Who takes part: the roles of the ranks."""

from enum import StrEnum

__all__ = ["SHARD_ROLES", "Role"]


class Role(StrEnum):
    """What a process is in the computation."""

    CLIENT = "client"
    SERVER = "server"
    DEALER = "dealer"
    WORKER = "worker"
    """One of the server's own: it multiplies for it (see `worker`)."""
    CLIENT_SHARD = "client-shard"
    SERVER_SHARD = "server-shard"
    DEALER_SHARD = "dealer-shard"
    """The three ranks of one more shard of a gallery (see `gallery.shards.group`)."""

    @property
    def party(self) -> "Role":
        """Whose rank it is: for a shard's rank the client, the server or the dealer."""
        return SHARD_ROLES.get(self, self)


SHARD_ROLES = {
    Role.CLIENT_SHARD: Role.CLIENT,
    Role.SERVER_SHARD: Role.SERVER,
    Role.DEALER_SHARD: Role.DEALER,
}
"""The roles of a shard's ranks, and whose they are."""
