"""Define the base classes of all errors of this project, and what a peer may learn about an error.

Each message is one line: what was expected, and what came. The type of an error says whether a peer may see its text
(`for_peers`):

- Yes, if the text says what the peer has sent, or that the peer has ended.
- No, for all other texts. They may name a file, a path or a value. A text that depends on values that only one side
  knows or has opened is a `HiddenError`. The peer learns only that there was an error.
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
"""The text that a peer sees in place of an error's own text, if that is not for peers."""


class HybridFaceError(Exception):
    """Base of all errors of this project."""

    for_peers: ClassVar[bool] = False


class ParameterError(HybridFaceError, ValueError):
    """An argument is outside its documented range. It is the caller's mistake, and nothing was sent."""


class ProtocolError(HybridFaceError):
    """A peer's message is not the one that the protocol expects next (type, shape, range, tag, version)."""

    for_peers = True


class HiddenError(ProtocolError):
    """A peer's message does not fit a value that only this side knows, or that it has opened."""

    for_peers = False


class PeerLostError(HybridFaceError):
    """A peer ended, refused, or did not answer in time."""

    for_peers = True


def reason_for_peers(error: BaseException) -> str:
    """Return the text about an error that a peer may see."""
    return str(error) if isinstance(error, HybridFaceError) and error.for_peers else UNTOLD
