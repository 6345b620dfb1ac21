"""The index of a private gallery: what was opened of its templates, on disk, and who they are."""
