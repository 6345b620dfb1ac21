"""Search a private gallery in shards: parts of its index that ranks of their own search."""
