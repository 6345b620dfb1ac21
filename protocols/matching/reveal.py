"""Name the parties that learn what a protocol opens."""

from enum import StrEnum

__all__ = ["Reveal"]


class Reveal(StrEnum):
    """The parties that learn the decision, or the outcome."""

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"
