"""Keep and search the index of a private gallery: opened differences of templates on disk, and who is enrolled."""
