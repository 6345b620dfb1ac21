"""Crashes and power cuts at every step: what a process does to files is recorded once, then every prefix is looked at.

See `record` for the recording, and `disk` for what a crash leaves of it.
"""
