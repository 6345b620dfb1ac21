"""Who learns what a protocol opens."""

from enum import StrEnum

__all__ = ["Reveal"]


class Reveal(StrEnum):
    """Who learns the decision, or the outcome."""

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"
