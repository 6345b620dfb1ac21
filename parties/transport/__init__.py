"""Move messages between parties: over MPI, over queues in one process, and over simulated networks."""
