"""Serve clients of other organisations over the network.

- `requests`: what a client asks before a session, and what the server answers.
- `configuration`, `folder`: the server's settings, and the clients that it knows.
- `supervisor`: starts the door, watches it, reports, reloads, ends.
- `door`: accepts connections, answers questions, and forks a process for each session.
- `session`: one client's session, in its own process.
"""
