"""Exact homomorphic encryption modulo 2^64: products of encrypted and known numbers, for correlations."""
