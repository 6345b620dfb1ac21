"""The server's file of a gallery: templates' shares, who they are, and limits on queries."""
