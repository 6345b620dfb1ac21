"""Numbers: the ring of the shares, residues of ciphertexts, transforms, bit planes, and random numbers."""
