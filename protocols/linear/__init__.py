"""Private linear layers: conversions between shares and ciphertexts, packing, and its planner."""
