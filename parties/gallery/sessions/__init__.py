"""Run sessions about private galleries and lists, on the client's side and on the server's."""
