"""Identification: whose template is nearest to a probe, on shares; see the modules from the ground up.

`selection` (the smallest of shared keys) -> `outcome` (what is opened).
"""
