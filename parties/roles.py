"""Who takes part: the roles of the ranks."""

from enum import StrEnum

__all__ = ["Role"]


class Role(StrEnum):
    """What a process is in the computation."""

    CLIENT = "client"
    SERVER = "server"
    DEALER = "dealer"
    WORKER = "worker"
    """One of the server's own: it multiplies for it (see `worker`)."""
