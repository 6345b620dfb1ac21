"""Keep prepared runs: in memory, and on disk between sessions."""
