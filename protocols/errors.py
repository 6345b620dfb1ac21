"""Every error this project raises. Each message is one line: what was expected, and what came."""

__all__ = ["HybridFaceError", "ParameterError", "PeerLostError", "ProtocolError"]


class HybridFaceError(Exception):
    """Base of all errors of this project."""


class ParameterError(HybridFaceError, ValueError):
    """An argument is outside its documented range. The caller's mistake; nothing was sent."""


class ProtocolError(HybridFaceError):
    """A peer's message is not the one that the protocol expects next (type, shape, range, tag, version)."""


class PeerLostError(HybridFaceError):
    """A peer ended, refused, or did not answer in time."""
