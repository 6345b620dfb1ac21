"""Keep and query galleries: the server's store and its limits, the client's key, indexes, shards and sessions."""
