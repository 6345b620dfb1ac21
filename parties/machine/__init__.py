"""Use a party's own machine: locks, durable files, settings of the process, measured speed."""
