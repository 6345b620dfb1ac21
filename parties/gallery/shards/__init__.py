"""Shards: parts of a private gallery's index, each searched by ranks of its own."""
