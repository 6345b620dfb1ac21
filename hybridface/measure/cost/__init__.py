"""What verifications, correlations, workers and identifications cost: `hybridface bench`."""
