"""Name the roles of the ranks."""

from enum import StrEnum

__all__ = ["SHARD_ROLES", "Role"]


class Role(StrEnum):
    """The role of a rank in the computation."""

    CLIENT = "client"
    SERVER = "server"
    DEALER = "dealer"
    WORKER = "worker"
    """An extra rank of the server, which multiplies ciphertexts by weights (see `worker`)."""
    CLIENT_SHARD = "client-shard"
    SERVER_SHARD = "server-shard"
    DEALER_SHARD = "dealer-shard"
    """The three ranks of one more shard of a gallery (see `gallery.shards.group`)."""

    @property
    def party(self) -> "Role":
        """The client, the server or the dealer for the role of a shard's rank; any other role itself."""
        return SHARD_ROLES.get(self, self)


SHARD_ROLES = {
    Role.CLIENT_SHARD: Role.CLIENT,
    Role.SERVER_SHARD: Role.SERVER,
    Role.DEALER_SHARD: Role.DEALER,
}
"""The party of each role that a shard's ranks have."""
