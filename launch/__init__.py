"""How processes start: command lines and scripts for one machine, several machines, Slurm and Kubernetes."""
