"""The command line: one module a command, and the options that several of them share."""
