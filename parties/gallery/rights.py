"""Name what a client may do in a gallery, and what each right tells the client of who is enrolled.

Every command of a gallery's session needs exactly one right: the table `rights` of the session says which. A client
without the right hears only that it does not have it, so the refusal tells nothing about who is enrolled.
"""

from enum import StrEnum

__all__ = ["Right"]


class Right(StrEnum):
    """One thing that a client may do in a gallery."""

    VERIFY = "verify"
    """Compare a photo with a person by name. The answer tells whether the person is enrolled, with how many photos."""

    IDENTIFY = "identify"
    """Find who is nearest to a photo. The client gets the index first, and with a private gallery's index all names."""

    ENROLL = "enroll"
    """Add photos of a person. The answer tells the number of the first one, so how many the person has had."""

    LIST = "list"
    """Get the names of all people."""

    REMOVE = "remove"
    """Remove people. The answer tells how many photos they had."""

    RENAME = "rename"
    """Give a person another name. The answer tells whether somebody has the old name or the new one."""

    ROTATE = "rotate"
    """Put a private gallery under a new key. The client gets all names, in order to compute the new shares."""
