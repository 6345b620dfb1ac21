"""Where the project lies."""

from pathlib import Path

__all__ = ["ROOT"]

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: tests that start processes start them here."""
