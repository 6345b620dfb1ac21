"""Define network profiles: named links with a bandwidth and a delay, for planning and for simulation.

A profile says what one link between two parties does to a message. Messages of one direction leave one after another at
the link's rate, and each arrives a fixed delay after its last byte has left. Both directions are alike, and do not
disturb each other. The profile "none" simulates no link: it slows nothing down.
"""

import math
from dataclasses import dataclass

from protocols.errors import ParameterError

__all__ = ["LAN", "LINKS", "MAX_NAME_BYTES", "MOBILE", "NONE", "WAN", "Link", "link_named"]

MAX_NAME_BYTES = 16
"""Bytes of a profile's name in ASCII, at most. The ranks of a session send each other the name."""

NANOSECONDS = 10**9
_LEAST_RATE, _LONGEST_DELAY = 1000, 3600


@dataclass(frozen=True)
class Link:
    """A link between two parties, the same in both directions.

    Args:
        name: 1 to 16 printable ASCII characters without spaces.
        bits_per_second: the rate of one direction; at least 1000, infinite for no limit.
        delay_seconds: one way, 0 to 3600; a round trip takes twice as long.

    Raises:
        ParameterError: a value is outside its range.
    """

    name: str
    bits_per_second: float
    delay_seconds: float

    def __post_init__(self) -> None:
        letters = self.name.isascii() and self.name.isprintable() and " " not in self.name
        if not (letters and 0 < len(self.name) <= MAX_NAME_BYTES):
            raise ParameterError(f"expected a link's name of 1 to {MAX_NAME_BYTES} ASCII characters, got {self.name!r}")
        if not self.bits_per_second >= _LEAST_RATE:
            raise ParameterError(f"expected a rate of at least {_LEAST_RATE} bit/s, got {self.bits_per_second}")
        if not 0 <= self.delay_seconds <= _LONGEST_DELAY:
            raise ParameterError(f"expected a delay of 0 to {_LONGEST_DELAY} s, got {self.delay_seconds}")

    @property
    def shapes(self) -> bool:
        """Whether the link slows anything down."""
        return self.bits_per_second < math.inf or self.delay_seconds > 0

    def transfer_seconds(self, size: int, flights: int = 1) -> float:
        """Return the least seconds in which `size` bytes cross the link in `flights` rounds, one after another."""
        return size * 8 / self.bits_per_second + flights * self.delay_seconds

    def sending_nanoseconds(self, size: int) -> int:
        """Return how long `size` bytes keep the link busy, in nanoseconds, rounded up."""
        return math.ceil(size * 8 * NANOSECONDS / self.bits_per_second)

    def delay_nanoseconds(self) -> int:
        """Return the delay in nanoseconds, rounded up."""
        return math.ceil(self.delay_seconds * NANOSECONDS)


NONE = Link("none", math.inf, 0.0)
LAN = Link("lan", 3e9, 0.3e-3)
WAN = Link("wan", 400e6, 40e-3)
MOBILE = Link("mobile", 50e6, 60e-3)

LINKS = {profile.name: profile for profile in (NONE, LAN, WAN, MOBILE)}
"""The named profiles."""


def link_named(name: str) -> Link:
    """Return a profile by its name.

    Raises:
        ParameterError: no profile has that name.
    """
    if name not in LINKS:
        *first, last = LINKS
        raise ParameterError(f"expected a network named {', '.join(first)} or {last}, got {name!r}")
    return LINKS[name]
