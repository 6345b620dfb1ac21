"""How large a gallery may be before identification wants a dealer."""

__all__ = ["MOST_WITHOUT_DEALER"]

MOST_WITHOUT_DEALER = 500
"""Photos: an identification among more sends over 65 MB each way to make its correlations by transfers."""
