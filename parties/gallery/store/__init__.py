"""Store a gallery in the server's file: shares of templates, the people's names, and limits on queries."""
