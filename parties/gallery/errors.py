"""Errors of galleries at rest. Each message is one line: what was expected, and what came."""

from protocols.errors import HybridFaceError

__all__ = [
    "MOST_SECONDS",
    "IndexChangedError",
    "KeyFileError",
    "KeyFileWarning",
    "QueryLimitError",
    "QueryRefusedError",
    "RefusalError",
    "StoreError",
    "TracesLeftError",
]


MOST_SECONDS = 1e12
"""A refusal never tells a longer time than this; clients take none."""


class StoreError(HybridFaceError):
    """A store's file is missing, damaged, another store's, in use, or does not hold what was asked for."""


class RefusalError(StoreError):
    """A store does not hold what was asked for, or is in use; whoever asked may hear why: no file is named."""

    for_peers = True


class IndexChangedError(RefusalError):
    """The gallery or an index of it was changed since it was indexed, or opened: bring the index up to date."""


class TracesLeftError(StoreError):
    """Photos are removed, but the file may still have old bytes of them.

    Args:
        removed: how many photos.
    """

    def __init__(self, message: str, removed: int) -> None:
        super().__init__(message)
        self.removed = removed


class QueryLimitError(HybridFaceError):
    """A client has asked too often about an identity.

    Args:
        retry_after_seconds: until the next query would be allowed; 0 to MOST_SECONDS, the nearest if it is
            another number.
    """

    for_peers = True

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = min(MOST_SECONDS, max(0.0, retry_after_seconds))
        super().__init__(
            f"expected fewer queries, got one too many: the next is allowed in {self.retry_after_seconds:.0f} s"
        )


class KeyFileError(HybridFaceError):
    """A key file is missing, exists already, or holds no key."""


class KeyFileWarning(UserWarning):
    """A key file can be read by other users."""


class QueryRefusedError(HybridFaceError):
    """The server has refused a request; the session goes on.

    Args:
        reason: in its words.
        retry_after_seconds: until it would be answered, if that is why.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"the server refuses: {reason}")
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
