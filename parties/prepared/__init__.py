"""Runs that were prepared ahead of time: in memory, and on disk between sessions."""
