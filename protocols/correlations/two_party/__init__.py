"""Correlations that client and server make between themselves, by oblivious transfers and exact encryption."""
