"""Sessions with all parties in this process, a thread each: for notebooks and tests."""
