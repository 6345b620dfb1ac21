"""Photos in, aligned faces out: reading, detection, alignment, and the photo sets that accuracy is measured on."""
