"""Use a server of another organisation.

- `known`: the servers that this client knows, and the networks that it has pinned.
- `connection`: questions to a server, and sessions with it.
- `start`: a command's run with a remote server.
- `session`, `gallery`, `pure_he`: `hybridface.connect`, the Python API; `access` has what they share.
"""
