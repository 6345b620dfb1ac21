"""Every error this project raises. Each message is one line: what was expected, and what came.

A type says whether peers may hear its texts (`for_peers`): those that say what a peer has sent, or that it has ended.
Others may name a file, a path or a value, and what depends on values that only one side knows or has opened is a
`HiddenError`: of these a peer hears that there was one.
"""

from typing import ClassVar

__all__ = [
    "UNTOLD",
    "HiddenError",
    "HybridFaceError",
    "ParameterError",
    "PeerLostError",
    "ProtocolError",
    "reason_for_peers",
]

UNTOLD = "it could not go on; its own output says why"
"""What a peer is told of an error whose text is not for it."""


class HybridFaceError(Exception):
    """Base of all errors of this project."""

    for_peers: ClassVar[bool] = False


class ParameterError(HybridFaceError, ValueError):
    """An argument is outside its documented range. The caller's mistake; nothing was sent."""


class ProtocolError(HybridFaceError):
    """A peer's message is not the one that the protocol expects next (type, shape, range, tag, version)."""

    for_peers = True


class HiddenError(ProtocolError):
    """A peer's message does not fit what this side alone knows, or has opened."""

    for_peers = False


class PeerLostError(HybridFaceError):
    """A peer ended, refused, or did not answer in time."""

    for_peers = True


def reason_for_peers(error: BaseException) -> str:
    """Return what a peer may be told of an error."""
    return str(error) if isinstance(error, HybridFaceError) and error.for_peers else UNTOLD
