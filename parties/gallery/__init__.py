"""Galleries at rest: the server's store of shares, its limits on queries, and the client's key file."""
