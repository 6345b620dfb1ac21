"""How a party says what it is doing."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "Progress"]


@dataclass(frozen=True)
class Progress:
    """A step of a long operation begins: step `index` (from 0) of `total`, of a phase."""

    phase: str
    stage: str
    index: int
    total: int


OnProgress = Callable[[Progress], None]
