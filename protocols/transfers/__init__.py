"""Oblivious transfer between two semi-honest parties, without a dealer."""
