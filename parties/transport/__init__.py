"""How messages travel between parties: MPI, and simulated networks."""
