"""Measure what a verification costs, in every mode and beside other methods, and how accurate it is."""
