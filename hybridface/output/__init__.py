"""Results on the terminal: tables, progress bars, answers."""
