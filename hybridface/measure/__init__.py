"""Measurements: what a verification costs, beside peers and in every mode, and how accurate it is."""
