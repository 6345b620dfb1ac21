"""Make a rank's process faster by two settings, which do not change what it computes.

- The timer slack is set to 1 us, so that sleeps end in time. By default the system may prolong a sleep by 50 us, which
  is as long as a message takes.
- The process keeps freed memory. By default glibc gives large arrays back to the system at once, and the next array
  pays for fresh, zeroed pages.

A setting is left out on a system that does not have its call.
"""

import ctypes

__all__ = ["tune_process"]

_PR_SET_TIMERSLACK = 29
_SLACK_NANOSECONDS = 1000
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_ALLOCATOR = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 1 << 30, _M_TOP_PAD: 16 << 20}


def tune_process() -> None:
    """Apply the settings to this process, and to threads that the calling thread starts later."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_TIMERSLACK, _SLACK_NANOSECONDS, 0, 0, 0)
    if hasattr(libc, "mallopt"):
        for setting, value in _ALLOCATOR.items():
            libc.mallopt(setting, value)
