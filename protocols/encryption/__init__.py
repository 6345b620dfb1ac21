"""Ring-LWE encryption on arrays: CKKS without slots, and exact BFV."""
