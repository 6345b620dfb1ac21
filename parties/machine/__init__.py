"""What a party does with its machine: locks, durable files, settings of the process, measured speed."""
