"""Report what a party is doing."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "Progress"]


@dataclass(frozen=True)
class Progress:
    """The start of a step in a long operation: step `index` (from 0) of `total` steps, in a phase."""

    phase: str
    stage: str
    index: int
    total: int


OnProgress = Callable[[Progress], None]
