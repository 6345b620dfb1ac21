"""Define the errors of galleries. Each message is one line: what was expected, and what came."""

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
"""The longest waiting time that a refusal names. Clients accept no longer one."""


class StoreError(HybridFaceError):
    """A store's file is missing, damaged, of another store, or in use, or it lacks the requested content."""


class RefusalError(StoreError):
    """A store lacks the requested content, or is in use. The peer may hear the reason: it names no file."""

    for_peers = True


class IndexChangedError(RefusalError):
    """The gallery has changed since it was indexed, or an index since it was opened: update the index."""


class TracesLeftError(StoreError):
    """Photos are removed, but the file may still hold old bytes of them.

    Args:
        removed: number of photos.
    """

    def __init__(self, message: str, removed: int) -> None:
        super().__init__(message)
        self.removed = removed


class QueryLimitError(HybridFaceError):
    """A client has asked too often about an identity.

    Args:
        retry_after_seconds: time until the next query is allowed. A number outside 0 to MOST_SECONDS becomes the
            nearer bound.
    """

    for_peers = True

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = min(MOST_SECONDS, max(0.0, retry_after_seconds))
        super().__init__(
            f"expected fewer queries, got one too many: the next is allowed in {self.retry_after_seconds:.0f} s"
        )


class KeyFileError(HybridFaceError):
    """A key file is missing, exists already, cannot be used, or holds no key."""


class KeyFileWarning(UserWarning):
    """Other users can read a key file."""


class QueryRefusedError(HybridFaceError):
    """The server has refused a request; the session goes on.

    Args:
        reason: the server's words.
        retry_after_seconds: time until the server would answer; None if the refusal has another reason.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"the server refuses: {reason}")
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
