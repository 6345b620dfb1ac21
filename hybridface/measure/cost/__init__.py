"""Measure the cost of verifications, correlations, workers and identifications: `hybridface bench`."""
