"""A session of client and server: agreement on terms, commands, progress and cost."""
