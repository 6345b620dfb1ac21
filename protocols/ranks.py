"""The two parties of a computation on shares, as numbers."""

__all__ = ["CLIENT", "SERVER"]

CLIENT, SERVER = 0, 1
