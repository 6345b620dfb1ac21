"""Whole networks as layer graphs: in the clear on fixed point, and on shares."""
