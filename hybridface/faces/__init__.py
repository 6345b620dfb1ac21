"""Photos in, aligned crops out: reading, detection, alignment, and the photo sets for measuring accuracy."""
