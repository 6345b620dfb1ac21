"""Every error this project raises. Each message is one line: what was expected, and what came."""

__all__ = ["UNTOLD", "HybridFaceError", "ParameterError", "PeerLostError", "ProtocolError", "reason_for_peers"]

UNTOLD = "it could not go on; its own output says why"
"""What a peer is told of an error whose text is not for it."""


class HybridFaceError(Exception):
    """Base of all errors of this project."""


class ParameterError(HybridFaceError, ValueError):
    """An argument is outside its documented range. The caller's mistake; nothing was sent."""


class ProtocolError(HybridFaceError):
    """A peer's message is not the one that the protocol expects next (type, shape, range, tag, version)."""


class PeerLostError(HybridFaceError):
    """A peer ended, refused, or did not answer in time."""


def reason_for_peers(error: BaseException) -> str:
    """Return what a peer may be told of an error: the text of the protocol's own errors, else only that there was one.

    Other texts may name a photo, a path, or a value.
    """
    if isinstance(error, ParameterError | PeerLostError | ProtocolError):
        return str(error)
    return UNTOLD
