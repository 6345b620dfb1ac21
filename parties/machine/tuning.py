"""Settings of a rank's process that make it faster; none changes what is computed.

Sleeps end when they should: the system may prolong a sleep by 50 us (its timer slack), as long as a message takes, so
the slack is set to 1 us. Freed memory is kept: by default glibc gives large arrays back to the system at once, and the
next array pays for fresh, zeroed pages. Where a call is missing, nothing happens.
"""

import ctypes

__all__ = ["tune_process"]

_PR_SET_TIMERSLACK = 29
_SLACK_NANOSECONDS = 1000
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_ALLOCATOR = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 1 << 30, _M_TOP_PAD: 16 << 20}


def tune_process() -> None:
    """Apply the settings to this process, and to threads that this one starts later."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_TIMERSLACK, _SLACK_NANOSECONDS, 0, 0, 0)
    if hasattr(libc, "mallopt"):
        for setting, value in _ALLOCATOR.items():
            libc.mallopt(setting, value)
