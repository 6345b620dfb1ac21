"""A gallery on disk as the commands see it: its file, tasks about it, and imports that can be continued."""
