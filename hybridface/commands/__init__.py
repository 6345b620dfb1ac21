"""The command line: one module for each command, and the options that several commands share."""
