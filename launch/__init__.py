"""Start the ranks: command lines and scripts for one machine, several machines, Slurm and Kubernetes."""
