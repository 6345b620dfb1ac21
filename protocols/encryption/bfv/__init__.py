"""Exact homomorphic encryption modulo 2^64: products of encrypted numbers with known ones, for correlations."""
